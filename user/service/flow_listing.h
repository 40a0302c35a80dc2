// The flows of all shards, for people and programs to look at.

#ifndef PACKET_HEADERS_USER_SERVICE_FLOW_LISTING_H_
#define PACKET_HEADERS_USER_SERVICE_FLOW_LISTING_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "user/flow/flow_survey.h"
#include "user/service/http_connections.h"
#include "user/service/observed.h"

namespace packet_headers {

// Of one answer.
inline constexpr size_t kMostFlowsListed = 1000;
inline constexpr size_t kFlowsListed = 100;  // where no limit is asked for

// What is asked for with sort=age|bytes|packets, limit=N and after=ID. InvalidArgument with one
// line for the client.
absl::StatusOr<FlowQuery> ParseFlowQuery(const HttpArguments& arguments);

// Answers with JSON. The shards are asked one query at a time, so that any number of clients can't
// keep them from their work. HTTP's thread.
class FlowListing {
 public:
  // The shards outlive it.
  explicit FlowListing(const Shards& shards) : shards_(shards) {}

  // Nothing while the shards work on it, or on another's.
  std::optional<HttpAnswer> Answer(const HttpArguments& arguments, int64_t now_ns);

 private:
  struct Asked {
    FlowQuery query;
    int64_t since_ns;
    std::vector<FlowRow> rows;
    std::vector<bool> has_answered;  // by shard
  };

  void Ask(const FlowQuery& query, int64_t now_ns);
  // Whether all shards have answered.
  bool Collect();
  std::string Json(Asked asked) const;

  const Shards& shards_;
  std::optional<Asked> asked_;
  // The last answer.
  FlowQuery query_;
  std::string json_;  // empty: there is none
  int64_t made_ns_ = 0;
};

}  // namespace packet_headers

#endif  // PACKET_HEADERS_USER_SERVICE_FLOW_LISTING_H_
