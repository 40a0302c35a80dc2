#include "user/service/observed.h"

#include "absl/strings/str_cat.h"
#include "user/service/books_report.h"

namespace packet_headers {

BooksByName ReadBooks(const Observed& observed) {
  absl::flat_hash_map<uint32_t, CountersByDirection> user;
  observed.engine.AddTo(user);
  for (const auto& shard : observed.shards) shard->books().AddTo(user);
  return observed.interfaces.Join(user);
}

std::vector<const Histogram*> EachOf(const Shards& shards,
                                     const Histogram& (Shard::*histogram)() const) {
  std::vector<const Histogram*> histograms;
  for (const auto& shard : shards) histograms.push_back(&(*shard.*histogram)());
  return histograms;
}

CounterArray TotalOf(const BooksByName& books) {
  CounterArray total = {};
  for (const auto& [name, directions] : books) {
    for (const CounterArray& counters : directions) {
      for (size_t counter = 0; counter < counters.size(); ++counter) {
        total[counter] += counters[counter];
      }
    }
  }
  return total;
}

void LogBooks(const BooksByName& books) {
  for (const auto& [name, directions] : books) {
    for (int direction = 0; direction < PH_DIRECTIONS; ++direction) {
      LogBooks(absl::StrCat("interface=", name, " direction=", kDirectionNames[direction]),
               directions[direction]);
    }
  }
}

}  // namespace packet_headers
