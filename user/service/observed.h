// What there is to look at in a running daemon.

#ifndef PACKET_HEADERS_USER_SERVICE_OBSERVED_H_
#define PACKET_HEADERS_USER_SERVICE_OBSERVED_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "packet_headers/contract.h"
#include "user/capture/attached_interfaces.h"
#include "user/capture/capture_engine.h"
#include "user/flow/shard.h"
#include "user/identity/announcer.h"
#include "user/identity/event_client.h"
#include "user/identity/event_server.h"
#include "user/output/memory_budget.h"
#include "user/output/publisher.h"
#include "user/service/health.h"
#include "user/service/sandbox.h"

namespace packet_headers {

inline constexpr const char* kDirectionNames[PH_DIRECTIONS] = {"ingress", "egress"};

using Shards = std::vector<std::unique_ptr<Shard>>;
using BooksByName = absl::btree_map<std::string, CountersByDirection>;

// All of it outlives whoever looks, and may be read by any thread.
struct Observed {
  const CaptureEngine& engine;
  const AttachedInterfaces& interfaces;
  const Shards& shards;
  const Publisher& publisher;
  const MemoryBudget& budget;
  const Announcer* announcer;       // null without an event socket
  const EventClient* event_client;  // likewise
  const EventServer* event_server;  // null if events are not served
  const Health& health;
  const Sandbox& sandbox;
  double started_seconds;  // Unix time
};

// Of all interfaces and directions.
CounterArray TotalOf(const BooksByName& books);

// The books of every interface, by its name: what kernel, engine and shards have counted.
BooksByName ReadBooks(const Observed& observed);

// Logs a line for each interface and direction: what was seen there, and where it went.
void LogBooks(const BooksByName& books);

// One number of all shards.
template <typename Number>
double SumOf(const Shards& shards, std::atomic<Number> FlowStats::*number) {
  Number sum = 0;
  for (const auto& shard : shards) {
    sum += (shard->stats().*number).load(std::memory_order_relaxed);
  }
  return static_cast<double>(sum);
}

// One histogram of each shard.
std::vector<const Histogram*> EachOf(const Shards& shards,
                                     const Histogram& (Shard::*histogram)() const);

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_OBSERVED_H_
