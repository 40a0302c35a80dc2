// Several sockets, one after the other, on one 4-tuple; and who only pretends to begin one.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/flow_fixture.h"

namespace packet_headers::testing {
namespace {

using List = std::vector<uint32_t>;

// Every socket has one file at most.
bool NoNameTwice(FlowFixture& flows) {
  const std::vector<std::string> uuids = flows.uuids();
  return std::set<std::string>(uuids.begin(), uuids.end()).size() == uuids.size();
}

TEST_CASE("A tuple that is used again after a close is another flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.Close(1);
  SECTION("at once") {}
  SECTION("after the first file was handed over") { flows.Wait(10 * kSecond); }
  SECTION("after the first flow was forgotten") { flows.Wait(100 * kSecond); }
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 2});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101, 102, 902, 903, 103});
  CHECK(Seqs(flows.FileOf(2)) == List{5000, 6000, 5001});
  CHECK(flows.Count(PH_SAVED) == 10);
}

TEST_CASE("A tuple that the host connects again is another flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Connect(1);
  SECTION("after a close") { flows.Close(1); }
  SECTION("without one") {}
  SECTION("after the first is over") {
    flows.Close(1);
    flows.Wait(10 * kSecond);
  }
  flows.Out({.flags = kSyn, .seq = 6000, .cookie = 2});
  flows.In({.flags = kSynAck, .seq = 5000, .ack = 6001});
  flows.Out({.seq = 6001, .ack = 5001, .cookie = 2});
  flows.Finish();
  CHECK(flows.uuids() == std::vector<std::string>{"flow_1", "flow_2"});
  CHECK(Seqs(flows.FileOf(2)) == List{6000, 5000, 6001});
}

TEST_CASE("A SYN that the socket challenges belongs to the socket's flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 5000});  // whoever guessed the tuple
  flows.In({.seq = 102, .ack = 901});
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  flows.In({.seq = 103, .ack = 902});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101, 5000, 102, 902, 103});
}

TEST_CASE("Any number of SYNs that are challenged belong to the socket's flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  for (uint32_t i = 0; i < 10; ++i) flows.In({.flags = kSyn, .seq = 5000 + i});
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  for (uint32_t i = 0; i < 10; ++i) flows.In({.flags = kSyn, .seq = 6000 + i});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)).size() == 24);
}

TEST_CASE("A SYN that another socket answers begins the other's flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 2});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101});
  CHECK(Seqs(flows.FileOf(2)) == List{5000, 6000, 5001});
}

TEST_CASE("A SYN that SYN cookies answer begins another flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 0});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Out({.seq = 6001, .ack = 5001, .cookie = 2});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101});
  CHECK(Seqs(flows.FileOf(2)) == List{5000, 6000, 5001, 6001});
}

TEST_CASE("A SYN that was sent twice before the answer is not torn apart", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Wait(kSecond);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 2});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101});
  CHECK(Seqs(flows.FileOf(2)) == List{5000, 5000, 6000, 5001});
}

TEST_CASE("A retransmitted SYN or SYN-ACK begins nothing", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 100});
  flows.Out({.flags = kSynAck, .seq = 900, .ack = 101, .cookie = 1});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)).size() == 5);
}

TEST_CASE("An attempt with another sequence number is another attempt", "[flow][reuse]") {
  FlowFixture flows;
  flows.In({.flags = kSyn, .seq = 100});
  flows.Out({.flags = kRst | kAck, .ack = 101});
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 2});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(2)) == List{5000, 6000, 5001});
  CHECK(flows.Count(PH_INCOMPLETE_HANDSHAKE) == 2);
}

TEST_CASE("A socket that takes the tuple over without a SYN begins its flow", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.Out({.seq = 6000, .cookie = 2});
  flows.Out({.seq = 6001, .cookie = 2});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101});
  CHECK(Seqs(flows.FileOf(2)) == List{6000, 6001});
}

TEST_CASE("The clock of a flow also holds for a SYN that it challenges", "[flow][reuse]") {
  FlowFixture flows;
  flows.table().set_wall_offset_ns(7200 * kSecond);
  flows.Accept(1);
  flows.table().set_wall_offset_ns(3600 * kSecond);  // the wall clock is put back
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101, 5000, 902});
}

TEST_CASE("A challenged SYN on another kind of link layer does not enter the file",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 5000, .link_layer = PH_LINK_IP});
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(flows.Count(PH_LINK_MISMATCH) == 1);
  CHECK(Seqs(flows.FileOf(1)) == List{100, 900, 101, 902});
}

TEST_CASE("A connection that takes the tuple over on another kind of link layer is saved",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kSyn, .seq = 5000, .link_layer = PH_LINK_IP});
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 2, .link_layer = PH_LINK_IP});
  flows.In({.seq = 5001, .ack = 6001, .link_layer = PH_LINK_IP});
  flows.Out({.seq = 6001, .ack = 5001, .cookie = 2, .link_layer = PH_LINK_IP});
  flows.Finish();
  CHECK(flows.FileOf(2).link_type == LinkType::kRawIp);
  CHECK(flows.FileOf(2).records.size() >= 3);  // the SYN may be lost
}

TEST_CASE("A spoofed SYN does not let in a flow that was refused", "[flow][reuse]") {
  FlowFixture flows(DefaultFlowOptions(), int64_t{64} << 20, /*most_flows=*/1);
  const Tuple other = {.remote_port = 1};
  flows.Accept(1, other);
  flows.Accept(2);
  CHECK(flows.stats().refused_by_limit == 1);
  flows.Close(1, other);
  flows.Wait(3 * kSecond);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.seq = 902, .ack = 102, .cookie = 2});
  flows.Finish();
  CHECK(flows.uuids() == std::vector<std::string>{"flow_1"});
}

// An open socket whose capture has ended.
FlowFixture& EndCapture(FlowFixture& flows) {
  for (int i = 0; i < 61; ++i) {
    flows.Out({.seq = 902, .ack = 102, .cookie = 1});
    flows.Wait(kSecond);
  }
  CHECK(flows.stats().capturing == 0);
  CHECK(flows.stats().ended == 1);
  return flows;
}

TEST_CASE("A spoofed SYN does not give the socket of an ended flow a second file",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.In({.seq = 103, .ack = 951});
  flows.Out({.seq = 951, .ack = 104, .cookie = 1});
  CHECK(flows.stats().capturing == 0);
  CHECK(NoNameTwice(flows));
  CHECK(flows.Count(PH_LATE) >= 4);
}

TEST_CASE("Two spoofed SYNs do not give the socket of an ended flow a second file",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.In({.flags = kSyn, .seq = 7000});
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

TEST_CASE("A spoofed SYN that was forgotten does not give an ended flow's socket a second file",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Wait(40 * kSecond);
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

TEST_CASE("A spoofed SYN that was evicted does not give an ended flow's socket a second file",
          "[flow][reuse]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_embryonic_flows = 10;
  FlowFixture flows(options);
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kSyn, .seq = 5000});
  for (uint16_t port = 1; port <= 20; ++port) {
    flows.In({.flags = kSyn, .seq = 1, .tuple = {.remote_port = port}});
  }
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

TEST_CASE("A spoofed RST does not give the socket of an ended flow a second file",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kRst, .seq = 123456});
  flows.Wait(90 * kSecond);
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

TEST_CASE("The other side's FIN does not give the socket of an ended flow a second file",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kFin, .seq = 102, .ack = 902});  // the host may go on sending for hours
  flows.Wait(90 * kSecond);
  flows.Out({.seq = 950, .ack = 103, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

TEST_CASE("A spoofed RST that the socket ignores does not give it a second file", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  flows.In({.flags = kRst, .seq = 123456});  // outside of the window: dropped without a word
  flows.Wait(90 * kSecond);                  // an idle connection
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

TEST_CASE("A connection that the socket of an ended flow gives way to is saved", "[flow][reuse]") {
  FlowOptions options = DefaultFlowOptions();
  options.ownership = GENERATE(Ownership::kSocket, Ownership::kAnnounced);
  FlowFixture flows(options);
  flows.Accept(1);
  EndCapture(flows);
  flows.In({.flags = kSyn, .seq = 5000});
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});  // so the peer has it go, and tries again
  flows.In({.flags = kRst, .seq = 102});
  flows.In({.flags = kSyn, .seq = 5000});
  // Only the records of our hooks tell the socket of a SYN-ACK.
  const uint64_t told = options.ownership == Ownership::kSocket ? 2 : 0;
  flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = told});
  flows.In({.seq = 5001, .ack = 6001});
  flows.Out({.seq = 6001, .ack = 5001, .cookie = 2});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(2)) == List{5000, 6000, 5001, 6001});
}

TEST_CASE("A real connection on the tuple of an ended flow is saved", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  SECTION("inbound") {
    flows.In({.flags = kSyn, .seq = 5000});
    flows.Out({.flags = kSynAck, .seq = 6000, .ack = 5001, .cookie = 2});
    flows.In({.seq = 5001, .ack = 6001});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(2)) == List{5000, 6000, 5001});
  }
  SECTION("outbound") {
    flows.Out({.flags = kSyn, .seq = 6000, .cookie = 2});
    flows.In({.flags = kSynAck, .seq = 5000, .ack = 6001});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(2)) == List{6000, 5000});
  }
  SECTION("taken over without a SYN") {
    flows.Out({.seq = 6000, .cookie = 2});
    flows.Finish();
    CHECK(Seqs(flows.FileOf(2)) == List{6000});
  }
}

TEST_CASE("A new connection on a settled tuple is asked for again", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  for (int i = 0; i < 10; ++i) flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  CHECK(flows.settled().size() == 1);
  CHECK(flows.unsettled().empty());
  SECTION("by its SYN") { flows.In({.flags = kSyn, .seq = 5000}); }
  SECTION("by its socket") { flows.Out({.seq = 6000, .cookie = 2}); }
  CHECK(flows.unsettled() == flows.settled());
}

TEST_CASE("A tuple is settled again if it was only a spoofed SYN", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  for (int i = 0; i < 10; ++i) flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  flows.In({.flags = kSyn, .seq = 5000});
  for (int i = 0; i < 10; ++i) flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  CHECK(flows.settled().size() == 2);
  CHECK(flows.unsettled().size() == 1);
}

TEST_CASE("A settled flow that the kernel forgot while it paused is settled again",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  EndCapture(flows);
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  REQUIRE(flows.settled().size() == 1);
  flows.ForgetSettled();
  flows.Out({.seq = 903, .ack = 102, .cookie = 1});
  CHECK(flows.settled().size() == 1);
  flows.Wait(2 * kSecond);
  for (int i = 0; i < 4; ++i) flows.Out({.seq = 904, .ack = 102, .cookie = 1});
  CHECK(flows.settled().size() == 2);
}

TEST_CASE("The SYN of a new connection does not have its own tuple settled", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(1);
  const int64_t first_ns = flows.now_ns() - 2 * kMillisecond;
  flows.Wait(20 * kSecond);
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  flows.Wait(20 * kSecond);
  flows.Out({.seq = 902, .ack = 102, .cookie = 1});
  flows.Wait(15 * kSecond);
  // Between the end of the capture duration and the next turn of the timers.
  flows.Out({.flags = kSyn, .seq = 6000, .cookie = 2, .at_ns = first_ns + 60 * kSecond + 1});
  CHECK(flows.settled().empty());
  flows.Out({.seq = 6001, .cookie = 2});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(2)) == List{6000, 6001});
}

// A SYN that a socket in TIME-WAIT does not take: the peer has that one go, and tries again.
void MeetTimeWait(FlowFixture& flows, uint64_t cookie) {
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.seq = 904, .ack = 103, .cookie = cookie});
  flows.In({.flags = kRst, .seq = 103});
}

TEST_CASE("What a socket in TIME-WAIT says to a SYN is of the new connection", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.Close(7);
  SECTION("while its flow lingers") {}
  SECTION("when its flow has ended") { flows.Wait(kLingerNs + kSecond); }
  MeetTimeWait(flows, 7);
  flows.In({.flags = kSyn, .seq = 500});
  flows.Wait(kLingerNs + kSecond);
  flows.Out({.flags = kSynAck, .seq = 2000, .ack = 501, .cookie = 8});
  flows.In({.seq = 501, .ack = 2001});
  flows.Wait(kLingerNs + kSecond);
  flows.Out({.seq = 2001, .ack = 501, .cookie = 8});
  flows.Finish();
  CHECK(flows.files().size() == 2);
  CHECK(Seqs(flows.FileOf(8)) == List{500, 904, 103, 500, 2000, 501, 2001});
  CHECK(flows.FileOf(8).end == FlowEnd::kShutdown);
}

TEST_CASE("A socket that connects again has a second file", "[flow][reuse]") {
  FlowFixture flows;
  flows.Out({.flags = kSyn, .seq = 900, .cookie = 7});
  flows.In({.flags = PH_TCP_RST | PH_TCP_ACK, .seq = 0, .ack = 901});
  SECTION("at once") {}
  SECTION("when its flow has ended") { flows.Wait(kLingerNs + kSecond); }
  flows.Out({.flags = kSyn, .seq = 5000, .cookie = 7});
  flows.In({.flags = kSynAck, .seq = 100, .ack = 5001});
  flows.Out({.seq = 5001, .ack = 101, .cookie = 7});
  flows.Finish();
  REQUIRE(flows.files().size() == 2);
  CHECK(Seqs(flows.files()[0]) == List{900, 0});
  CHECK(Seqs(flows.files()[1]) == List{5000, 100, 5001});
}

TEST_CASE("A SYN that was not answered for long is new when it is sent again", "[flow][reuse]") {
  FlowOptions options = DefaultFlowOptions();
  options.ownership = GENERATE(Ownership::kSocket, Ownership::kAnnounced, Ownership::kHandshake);
  options.flow_timeout_ns = 5 * kSecond;
  FlowFixture flows(options);
  for (int i = 0; i < 5; ++i) flows.In({.flags = kSyn, .seq = 500});
  flows.Wait(6 * kSecond);
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.flags = kSynAck, .seq = 2000, .ack = 501});  // a SYN cookie
  flows.In({.seq = 501, .ack = 2001});
  const uint64_t cookie = options.ownership == Ownership::kHandshake ? 0 : 8;
  flows.Out({.seq = 2001, .ack = 501, .cookie = cookie});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(cookie)) == List{500, 2000, 501, 2001});
}

TEST_CASE("A SYN that a socket in TIME-WAIT refuses again and again is new in the end",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.Close(7);
  for (int i = 0; i < 3; ++i) {
    MeetTimeWait(flows, 7);
    flows.Wait(kSecond);
  }
  flows.Wait(kLingerNs);
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.flags = kSynAck, .seq = 2000, .ack = 501, .cookie = 8});
  flows.In({.seq = 501, .ack = 2001});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(8)) == List{500, 2000, 501});
}

TEST_CASE("A SYN that is sent again after captureduration begins the capture anew",
          "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.Close(7);
  for (int i = 0; i < 4; ++i) {
    flows.In({.flags = kSyn, .seq = 500});
    flows.Out({.seq = 904, .ack = 103, .cookie = 7});
    flows.Wait(20 * kSecond);
  }
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.flags = kSynAck, .seq = 2000, .ack = 501, .cookie = 8});
  flows.In({.seq = 501, .ack = 2001});
  flows.Wait(25 * kSecond);
  flows.Out({.seq = 2001, .ack = 501, .cookie = 8});
  flows.Finish();
  const List seqs = Seqs(flows.FileOf(8));
  CHECK(List(seqs.end() - 4, seqs.end()) == List{500, 2000, 501, 2001});
}

TEST_CASE("What a socket in LAST-ACK says to a SYN is of the new connection", "[flow][reuse]") {
  FlowFixture flows;
  flows.Accept(7);
  flows.In({.flags = kFin, .seq = 102, .ack = 901});
  flows.Out({.flags = kFin, .seq = 901, .ack = 103, .cookie = 7});
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.flags = kFin, .seq = 901, .ack = 103, .cookie = 7});
  flows.In({.flags = kRst, .seq = 103});
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.flags = kSynAck, .seq = 2000, .ack = 501, .cookie = 8});
  flows.In({.seq = 501, .ack = 2001});
  flows.In({.flags = kFin, .seq = 501, .ack = 2001});  // the host may go on sending
  flows.Wait(kLingerNs + kSecond);
  flows.Out({.seq = 2001, .ack = 502, .cookie = 8});
  flows.Finish();
  CHECK(Seqs(flows.FileOf(7)) == List{100, 900, 101, 102, 901});
  CHECK(Seqs(flows.FileOf(8)) == List{500, 901, 103, 500, 2000, 501, 501, 2001});
}

TEST_CASE("A socket whose tuple was taken begins a flow with its SYN", "[flow][reuse]") {
  FlowFixture flows;
  flows.Connect(7);
  flows.In({.flags = kRst, .seq = 101});
  flows.In({.flags = kSyn, .seq = 500});
  flows.Out({.flags = kSyn, .seq = 5000, .cookie = 7, .tuple = Peer(1)});
  flows.In({.flags = kSynAck, .seq = 100, .ack = 5001, .tuple = Peer(1)});
  flows.Finish();
  REQUIRE(flows.files().size() == 2);
  CHECK(Seqs(flows.files()[1]) == List{5000, 100});
}

TEST_CASE("A RST of the host that the handshake survives does not close its socket",
          "[flow][reuse]") {
  FlowOptions options = DefaultFlowOptions();
  options.max_ended_flows = 1;
  FlowFixture flows(options);
  flows.Out({.flags = kSyn, .seq = 900, .cookie = 1});
  flows.In({.seq = 7000, .ack = 8000});  // of a socket in TIME-WAIT
  flows.Out({.flags = kRst, .seq = 8000, .cookie = 1});
  flows.Out({.flags = kSyn, .seq = 900, .cookie = 1});
  flows.In({.flags = kSynAck, .seq = 100, .ack = 901});
  EndCapture(flows);
  flows.Accept(2, Peer(1));
  flows.Wait(31 * kSecond);  // so that of the two ended flows the first is forgotten
  flows.Out({.seq = 950, .ack = 102, .cookie = 1});
  flows.Finish();
  CHECK(NoNameTwice(flows));
}

}  // namespace
}  // namespace packet_headers::testing
