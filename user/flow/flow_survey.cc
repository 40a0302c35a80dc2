#include "user/flow/flow_survey.h"

#include <algorithm>
#include <utility>

namespace packet_headers {
namespace {

// What its packets have told so far.
const char* StateOf(const Flow& flow) {
  if (flow.reset) return "reset";
  if (flow.closed()) return "closed";
  if (flow.fin[PH_INGRESS] || flow.fin[PH_EGRESS]) return "closing";
  const bool is_half_open = flow.syns.seen[PH_INGRESS] != flow.syns.seen[PH_EGRESS];
  return is_half_open ? "opening" : "open";
}

FlowRow RowOf(const FlowTable& table, const Flow& flow) {
  return {.id = flow.id,
          .key = flow.shown_key(),
          .uuid = table.UuidOf(flow),
          .state = StateOf(flow),
          .packets = flow.packets.total(),
          .bytes = flow.wire_bytes,
          .age_ns = table.latest_ns() - flow.first_ns,
          .idle_ns = table.latest_ns() - flow.last_ns};
}

}  // namespace

bool IsBefore(FlowQuery::Order order, const FlowRow& a, const FlowRow& b) {
  switch (order) {
    case FlowQuery::Order::kBytes:
      return a.bytes > b.bytes;
    case FlowQuery::Order::kPackets:
      return a.packets > b.packets;
    default:
      return a.id < b.id;
  }
}

void FlowSurvey::Ask(const FlowQuery& query) {
  const std::scoped_lock lock(mutex_);
  asked_ = query;
  answer_.reset();
}

std::optional<std::vector<FlowRow>> FlowSurvey::Take() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(answer_, std::nullopt);
}

bool FlowSurvey::Step(FlowTable& table) {
  Begin(table);
  if (!query_) return false;
  // Of a shard whose flows are all on pages before nothing is looked at.
  const bool has_more =
      query_->after < table.latest_id() &&
      table.WalkOn(kFlowsInTurn, [&](const Flow& flow) { return Look(table, flow); });
  const bool is_page = query_->order == FlowQuery::Order::kAge;
  if (has_more && !(is_page && rows_.size() >= query_->most)) return true;
  if (!is_page || !has_more) walked_to_ = 0;
  query_.reset();
  const std::scoped_lock lock(mutex_);
  // Somebody may have asked for something else meanwhile.
  if (!asked_) answer_ = std::exchange(rows_, {});
  return asked_.has_value();
}

void FlowSurvey::Begin(FlowTable& table) {
  {
    const std::scoped_lock lock(mutex_);
    if (!asked_) return;
    query_ = std::exchange(asked_, std::nullopt);
  }
  rows_.clear();
  // The next page goes on where the one before has ended.
  const bool goes_on = query_->after != 0 && query_->after == walked_to_;
  if (goes_on) return;
  table.BeginWalk();
  walked_to_ = 0;
}

bool FlowSurvey::Look(const FlowTable& table, const Flow& flow) {
  const auto is_before = [order = query_->order](const FlowRow& a, const FlowRow& b) {
    return IsBefore(order, a, b);
  };
  if (query_->order == FlowQuery::Order::kAge) {
    walked_to_ = flow.id;
    if (flow.id > query_->after) rows_.push_back(RowOf(table, flow));
    return rows_.size() < query_->most;
  }
  if (rows_.size() >= query_->most) {
    const bool by_bytes = query_->order == FlowQuery::Order::kBytes;
    const FlowRow& least = rows_.front();
    if (by_bytes ? flow.wire_bytes <= least.bytes : flow.packets.total() <= least.packets)
      return true;
    std::pop_heap(rows_.begin(), rows_.end(), is_before);
    rows_.pop_back();
  }
  rows_.push_back(RowOf(table, flow));
  std::push_heap(rows_.begin(), rows_.end(), is_before);
  return true;
}

}  // namespace packet_headers
