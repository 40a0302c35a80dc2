#include "user/flow/flow_survey.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using Order = FlowQuery::Order;

struct Surveyed : FlowFixture {
  using FlowFixture::FlowFixture;

  // The flows from `first` on, of which number n has n packets beyond its handshake.
  void Open(uint16_t first, uint16_t flows, bool grows = false) {
    for (uint16_t number = first; number < first + flows; ++number) {
      const Tuple tuple = {.remote_port = number};
      Accept(number, tuple);
      for (int i = 0; grows && i < number; ++i) In({.seq = 101, .ack = 901, .tuple = tuple});
    }
  }

  std::optional<std::vector<FlowRow>> Turn() {
    survey.Step(table());
    return survey.Take();
  }

  std::vector<FlowRow> Ask(const FlowQuery& query) {
    survey.Ask(query);
    while (survey.Step(table())) {
    }
    return survey.Take().value();
  }

  FlowSurvey survey;
};

std::vector<uint16_t> Ports(const std::vector<FlowRow>& rows) {
  std::vector<uint16_t> ports;
  for (const FlowRow& row : rows) ports.push_back(ntohs(row.key.remote_port_be));
  return ports;
}

TEST_CASE_METHOD(Surveyed, "A flow is shown as it is known", "[survey]") {
  CHECK(Ask({.most = 9}).empty());
  Accept(7);
  Wait(3 * kSecond);
  const std::vector<FlowRow> rows = Ask({.most = 9});
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].key == Tuple().key());
  CHECK(rows[0].packets == 3);
  CHECK(rows[0].bytes > 3 * 40);
  CHECK(rows[0].idle_ns == 3 * kSecond);
  CHECK(rows[0].age_ns == 3 * kSecond + 2 * kMillisecond);
  CHECK(std::string(rows[0].state) == "open");
  const std::string uuid = rows[0].uuid;
  Finish();
  CHECK(uuids() == std::vector<std::string>{uuid});
}

TEST_CASE_METHOD(Surveyed, "Its state is what its packets told", "[survey]") {
  const auto state = [this] { return std::string(Ask({.most = 1}).at(0).state); };
  Out({.flags = kSyn, .seq = 900, .cookie = 7});
  CHECK(state() == "opening");
  In({.flags = kSynAck, .seq = 100, .ack = 901});
  CHECK(state() == "open");
  In({.flags = kFin, .seq = 101, .ack = 901});
  CHECK(state() == "closing");
  Out({.flags = kFin, .seq = 901, .ack = 102, .cookie = 7});
  CHECK(state() == "closed");
  In({.flags = kRst, .seq = 102});
  CHECK(state() == "reset");
}

TEST_CASE("What a file hides is hidden, and a name that is to come is none", "[survey]") {
  FlowOptions options = DefaultFlowOptions();
  options.anonymizer = std::make_shared<const Anonymizer>();
  options.naming = Naming::kAnnouncedOrOwn;
  Surveyed flows(options);
  flows.Accept(7);
  const std::vector<FlowRow> rows = flows.Ask({.most = 1});
  CHECK(rows.at(0).key == Tuple{.local = "192.0.2.0", .remote = "198.51.100.0"}.key());
  CHECK(rows.at(0).uuid.empty());
}

TEST_CASE_METHOD(Surveyed, "The largest come first, and no more than were asked for", "[survey]") {
  Open(1, 40, /*grows=*/true);
  for (const Order order : {Order::kBytes, Order::kPackets}) {
    std::vector<FlowRow> rows = Ask({.order = order, .most = 3});
    std::sort(rows.begin(), rows.end(),
              [order](const FlowRow& a, const FlowRow& b) { return IsBefore(order, a, b); });
    CHECK(Ports(rows) == std::vector<uint16_t>{40, 39, 38});
  }
}

TEST_CASE_METHOD(Surveyed, "Pages hold every flow once, oldest first", "[survey]") {
  Open(1, 100);
  std::vector<uint16_t> ports;
  uint64_t after = 0;
  bool disturb = false;
  SECTION("undisturbed") {}
  SECTION("while others ask") { disturb = true; }
  while (true) {
    if (disturb) Ask({.order = Order::kBytes, .most = 5});
    const std::vector<FlowRow> rows = Ask({.after = after, .most = 7});
    if (rows.empty()) break;
    for (const uint16_t port : Ports(rows)) ports.push_back(port);
    after = rows.back().id;
  }
  CHECK(ports.size() == 100);
  CHECK(std::is_sorted(ports.begin(), ports.end()));
  // What begins behind the last page is found there.
  Open(200, 1);
  CHECK(Ports(Ask({.after = after, .most = 7})) == std::vector<uint16_t>{200});
}

TEST_CASE_METHOD(Surveyed, "Flows may come and go between the pages", "[survey]") {
  Open(1, 30);
  std::vector<FlowRow> rows = Ask({.most = 10});
  // The last one shown, the next one, and one after it.
  for (const uint16_t gone : {10, 11, 13}) {
    In({.flags = kSyn, .seq = 5000, .tuple = {.remote_port = gone}});
    Out({.flags = kSynAck,
         .seq = 77,
         .ack = 5001,
         .cookie = 1000U + gone,
         .tuple = {.remote_port = gone}});
  }
  rows = Ask({.after = rows.back().id, .most = 3});
  CHECK(Ports(rows) == std::vector<uint16_t>{12, 14, 15});
}

TEST_CASE_METHOD(Surveyed, "A turn looks at so many flows and no more", "[survey]") {
  const auto flows = static_cast<uint16_t>(2 * FlowSurvey::kFlowsInTurn + 1);
  Open(1, flows);
  survey.Ask({.order = Order::kBytes, .most = 2});
  CHECK_FALSE(Turn());
  CHECK_FALSE(Turn());
  CHECK(Turn().value().size() == 2);
  CHECK_FALSE(Turn());
  SECTION("another question ends the first") {
    survey.Ask({.order = Order::kBytes, .most = 2});
    CHECK_FALSE(Turn());
    survey.Ask({.most = 5});
    CHECK(Turn().value().size() == 5);
  }
  SECTION("none if all are on pages before") {
    survey.Ask({.after = Ask({.most = flows}).back().id, .most = 2});
    CHECK(Turn().value().empty());
  }
  SECTION("a page goes on behind the one before, not where another walk was given up") {
    const uint64_t after = Ask({.most = 5}).back().id;
    survey.Ask({.order = Order::kBytes, .most = 2});
    CHECK_FALSE(Turn());
    CHECK(Ports(Ask({.after = after, .most = 2})) == std::vector<uint16_t>{6, 7});
  }
  SECTION("flows may end between the turns") {
    survey.Ask({.order = Order::kPackets, .most = flows});
    CHECK_FALSE(Turn());
    Finish();
    CHECK(Turn().value().size() == FlowSurvey::kFlowsInTurn);
  }
}

}  // namespace
}  // namespace packet_headers::testing
