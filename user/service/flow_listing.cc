#include "user/service/flow_listing.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "user/base/scaled.h"
#include "user/output/address_text.h"

namespace packet_headers {
namespace {

using nlohmann::ordered_json;

// An answer serves all who ask the same within this time.
constexpr int64_t kFreshNs = 500'000'000;
// Shards that say nothing for so long are finishing, or stuck.
constexpr int64_t kPatienceNs = 4'000'000'000;

HttpAnswer Refusal(unsigned status, absl::string_view why) {
  return {status, absl::StrCat(why, "\n")};
}

}  // namespace

absl::StatusOr<FlowQuery> ParseFlowQuery(const HttpArguments& arguments) {
  FlowQuery query = {.most = kFlowsListed};
  for (const auto& [name, value] : arguments) {
    if (name == "sort") {
      if (value != "age" && value != "bytes" && value != "packets") {
        return absl::InvalidArgumentError("sort must be age, bytes or packets");
      }
      query.order = value == "age"     ? FlowQuery::Order::kAge
                    : value == "bytes" ? FlowQuery::Order::kBytes
                                       : FlowQuery::Order::kPackets;
    } else if (name == "limit") {
      if (!absl::SimpleAtoi(value, &query.most) || query.most < 1 ||
          query.most > kMostFlowsListed) {
        return absl::InvalidArgumentError(absl::StrCat("limit must be 1 to ", kMostFlowsListed));
      }
    } else if (name == "after") {
      if (!absl::SimpleAtoi(value, &query.after)) {
        return absl::InvalidArgumentError("after must be the `next` of the page before");
      }
    } else {
      return absl::InvalidArgumentError("there is sort, limit and after, and nothing else");
    }
  }
  if (query.after != 0 && query.order != FlowQuery::Order::kAge) {
    return absl::InvalidArgumentError("after is for sort=age: who is the largest changes");
  }
  return query;
}

std::optional<HttpAnswer> FlowListing::Answer(const HttpArguments& arguments, int64_t now_ns) {
  const absl::StatusOr<FlowQuery> query = ParseFlowQuery(arguments);
  if (!query.ok()) {
    const absl::string_view why = query.status().message();
    return Refusal(MHD_HTTP_BAD_REQUEST, why);
  }
  if (asked_ && Collect()) {
    query_ = asked_->query;
    made_ns_ = now_ns;
    json_ = Json(*std::exchange(asked_, std::nullopt));
  }
  if (!json_.empty() && *query == query_ && now_ns < made_ns_ + kFreshNs) {
    return HttpAnswer{MHD_HTTP_OK, json_, "application/json"};
  }
  if (!asked_) {
    Ask(*query, now_ns);
  } else if (now_ns > asked_->since_ns + kPatienceNs) {
    asked_.reset();
    return Refusal(MHD_HTTP_SERVICE_UNAVAILABLE, "the shards don't answer (see /healthz)");
  }
  return std::nullopt;
}

void FlowListing::Ask(const FlowQuery& query, int64_t now_ns) {
  asked_ = Asked{query, now_ns, {}, std::vector<bool>(shards_.size())};
  for (const auto& shard : shards_) shard->survey().Ask(query);
}

bool FlowListing::Collect() {
  for (size_t shard = 0; shard < shards_.size(); ++shard) {
    if (asked_->has_answered[shard]) continue;
    std::optional<std::vector<FlowRow>> rows = shards_[shard]->survey().Take();
    if (!rows) continue;
    asked_->has_answered[shard] = true;
    absl::c_move(*rows, std::back_inserter(asked_->rows));
  }
  return !absl::c_linear_search(asked_->has_answered, false);
}

std::string FlowListing::Json(Asked asked) const {
  std::vector<FlowRow>& rows = asked.rows;
  const FlowQuery::Order order = asked.query.order;
  absl::c_sort(rows, [order](const FlowRow& a, const FlowRow& b) { return IsBefore(order, a, b); });
  const bool has_more =
      order == FlowQuery::Order::kAge && !rows.empty() && rows.size() >= asked.query.most;
  rows.resize(std::min(rows.size(), asked.query.most));
  ordered_json listing = {
      {"capturing", static_cast<int64_t>(SumOf(shards_, &FlowStats::capturing))},
      {"next", nullptr},
      {"flows", ordered_json::array()}};
  // In quotes: JavaScript's numbers have 53 bits.
  if (has_more) listing["next"] = absl::StrCat(rows.back().id);
  for (FlowRow& row : rows) {
    listing["flows"].push_back(
        {{"uuid", row.uuid.empty() ? ordered_json() : ordered_json(row.uuid)},
         {"state", row.state},
         {"local", AddressText(row.key.local_addr)},
         {"local_port", ntohs(row.key.local_port_be)},
         {"remote", AddressText(row.key.remote_addr)},
         {"remote_port", ntohs(row.key.remote_port_be)},
         {"packets", row.packets},
         {"bytes", row.bytes},
         {"age_seconds", Seconds(row.age_ns)},
         {"idle_seconds", Seconds(row.idle_ns)}});
  }
  return listing.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
}

}  // namespace packet_headers
