// What a shard shows of its flows to who asks.

#ifndef PACKET_HEADERS_USER_FLOW_FLOW_SURVEY_H_
#define PACKET_HEADERS_USER_FLOW_FLOW_SURVEY_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "packet_headers/flow_key.h"
#include "user/flow/flow_table.h"

namespace packet_headers {

struct FlowQuery {
  enum class Order {
    kAge,      // oldest first, from behind `after` on
    kBytes,    // those with the most
    kPackets,  // likewise
  };

  bool operator==(const FlowQuery&) const = default;

  Order order = Order::kAge;
  uint64_t after = 0;  // with kAge: the id of the last flow that is known already
  size_t most = 0;
};

// One capturing flow.
struct FlowRow {
  uint64_t id;
  ph_flow_key key;   // as its file shows it: what is hidden there is hidden here
  std::string uuid;  // empty: not named yet
  const char* state;
  uint64_t packets;
  uint64_t bytes;   // on the wire
  int64_t age_ns;   // since its first packet
  int64_t idle_ns;  // since its last
};

// Whether `a` comes before `b` in an answer.
bool IsBefore(FlowQuery::Order order, const FlowRow& a, const FlowRow& b);

// One query at a time. It is worked on in turns of the shard's thread, each of which looks at
// kFlowsInTurn flows at most, however many there are.
class FlowSurvey {
 public:
  static constexpr size_t kFlowsInTurn = 2048;

  // Any thread. Gives up the query before.
  void Ask(const FlowQuery& query);
  // Any thread. The answer to the last query, once; nothing while there is none.
  std::optional<std::vector<FlowRow>> Take();

  // The shard's thread: one turn. Whether there is more to do.
  bool Step(FlowTable& table);

 private:
  void Begin(FlowTable& table);
  // Whether to go on to the next flow.
  bool Look(const FlowTable& table, const Flow& flow);

  std::mutex mutex_;  // guards what follows
  std::optional<FlowQuery> asked_;
  std::optional<std::vector<FlowRow>> answer_;

  // The shard's thread.
  std::optional<FlowQuery> query_;  // being worked on
  std::vector<FlowRow> rows_;       // by age, or a heap whose front is the smallest
  uint64_t walked_to_ = 0;          // the id of the last flow that a walk has come to
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_FLOW_FLOW_SURVEY_H_
