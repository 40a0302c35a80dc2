#include "user/capture/pcap_capture.h"

#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/bpf/own_network.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "user/base/clock.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kBufferBytes = 4 << 20;
constexpr ph_hash_seed kSeed = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};
constexpr uint32_t kCapNetRaw = 13;

struct Record {
  Bytes headers;
  ph_header_record fixed;  // last, since it ends in an array of no size
};

Packet Segment(uint32_t number) {
  return Packet().Ethernet().Ipv4("192.0.2.1", "198.51.100.2").Tcp(1234, 80).Seq(number);
}

uint32_t NumberOf(const Record& record) {
  uint32_t sequence_be;
  std::memcpy(&sequence_be, record.headers.data() + record.fixed.l4_offset + 4, 4);
  return ntohl(sequence_be);
}

std::vector<uint32_t> NumbersOf(const std::vector<Record>& records) {
  std::vector<uint32_t> numbers;
  for (const Record& record : records) numbers.push_back(NumberOf(record));
  return numbers;
}

std::vector<uint32_t> UpTo(uint32_t count) {
  std::vector<uint32_t> numbers(count);
  for (uint32_t i = 0; i < count; ++i) numbers[i] = i;
  return numbers;
}

// The engine, with the test as the thread of its shard.
class Engine {
 public:
  explicit Engine(int64_t buffer_bytes = kBufferBytes,
                  std::unique_ptr<SocketOwners> owners = nullptr) {
    absl::StatusOr<std::unique_ptr<PcapCapture>> engine =
        PcapCapture::Open(kSeed, buffer_bytes, std::move(owners));
    REQUIRE(engine.ok());
    engine_ = *std::move(engine);
  }

  Attachment Attach(const std::string& name) {
    absl::StatusOr<Attachment> attachment = engine_->Attach(InterfaceNamed(name));
    INFO(std::string(attachment.status().message()));
    REQUIRE(attachment.ok());
    return *std::move(attachment);
  }

  // What waits, `most` at a time.
  std::vector<Record> Drain(size_t most = 1000) {
    std::vector<Record> records;
    const auto use = [&records](absl::Span<const RecordBytes> some) {
      for (const auto& [data, size] : some) {
        Record record;
        REQUIRE(size >= sizeof(record.fixed));
        std::memcpy(&record.fixed, data, sizeof(record.fixed));
        REQUIRE(size == sizeof(record.fixed) + record.fixed.header_len);
        const auto* headers = static_cast<const uint8_t*>(data) + sizeof(record.fixed);
        record.headers.assign(headers, headers + record.fixed.header_len);
        records.push_back(std::move(record));
      }
    };
    while (const size_t used = engine_->source(0).Drain(most, use)) REQUIRE(used <= most);
    return records;
  }

  // Of what comes in through another interface the kernel may hand over a part later.
  std::vector<Record> DrainUntil(size_t count) {
    std::vector<Record> records;
    for (int waits = 0; records.size() < count && waits < 100; ++waits) {
      engine_->source(0).Wait(absl::Milliseconds(100));
      for (Record& record : Drain()) records.push_back(std::move(record));
    }
    return records;
  }

  std::string Books(const std::string& name) { return Books(InterfaceNamed(name).ifindex); }

  // "ingress: seen 2, captured 2; egress: ", for example.
  std::string Books(uint32_t ifindex) {
    const CountersByDirection counters = Counters(ifindex);
    return "ingress: " + Text(counters[PH_INGRESS]) + "; egress: " + Text(counters[PH_EGRESS]);
  }

  CountersByDirection Counters(uint32_t ifindex) {
    absl::flat_hash_map<uint32_t, CountersByDirection> totals;
    engine_->AddTo(totals);
    return totals[ifindex];
  }

  PcapCapture* operator->() { return engine_.get(); }

 private:
  static std::string Text(const CounterArray& counters) {
    static constexpr const char* kNames[] = {"seen", "captured",
#define NAME(enumerator, name, meaning) #name,
                                             PH_KERNEL_REASONS(NAME)
#undef NAME
    };
    std::string text;
    for (size_t i = 0; i < PH_KERNEL_COUNTERS; ++i) {
      if (counters[i] == 0) continue;
      if (!text.empty()) text += ", ";
      text += std::string(kNames[i]) + " " + std::to_string(counters[i]);
    }
    return text;
  }

  std::unique_ptr<PcapCapture> engine_;
};

std::unique_ptr<SocketOwners> Owners() {
  absl::StatusOr<std::unique_ptr<SocketOwners>> owners = SocketOwners::Open();
  REQUIRE(owners.ok());
  return *std::move(owners);
}

// The status of attaching in a thread that has these capabilities alone.
absl::Status AttachWith(uint32_t capabilities, PcapCapture& engine,
                        const NetworkInterface& interface) {
  absl::Status status;
  std::thread([&] {
    __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
    data[0].effective = data[0].permitted = capabilities;
    if (syscall(SYS_capset, &header, data) != 0) std::abort();
    status = engine.Attach(interface).status();
  }).join();
  return status;
}

TEST_CASE("Each packet is seen once, in its direction, as it is", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine;
  const Attachment attachment = engine.Attach("near");
  CHECK(attachment.ingress_hook == Hook::kPcap);
  CHECK(attachment.egress_hook == Hook::kPcap);

  const Packet sent = Segment(1).Timestamps().Payload(100);
  const Packet received = Packet().Ethernet().Vlan(5).Ipv6("2001:db8::2", "2001:db8::1").Tcp(80, 9);
  const int64_t before_ns = MonotonicNow();
  FrameSender("near").Send(sent.bytes());
  FrameSender("near").Send(Packet().Ethernet().EtherType(0x0806).Payload(46).bytes());
  FrameSender("far").Send(Packet().Ethernet().Ipv4("192.0.2.1", "192.0.2.2").Udp(1, 2).bytes());
  FrameSender("far").Send(received.bytes());
  const std::vector<Record> records = engine.DrainUntil(2);
  REQUIRE(records.size() == 2);
  CHECK(engine.Books("near") ==
        "ingress: seen 2, captured 1, not_tcp 1; egress: seen 2, captured 1, not_ip 1");

  for (size_t i = 0; i < 2; ++i) {
    INFO(i);
    const Packet& packet = i == 0 ? sent : received;
    const ph_direction direction = i == 0 ? PH_EGRESS : PH_INGRESS;
    const Bytes bytes = packet.bytes();
    const ph_header_record& record = records[i].fixed;
    const ph_flow_key key = packet.key(direction);
    CHECK(record.direction == direction);
    CHECK(record.ifindex == InterfaceNamed("near").ifindex);
    CHECK(record.wire_len == bytes.size());
    CHECK(record.flow_hash == ph_flow_hash(&key, &kSeed));
    CHECK(record.socket_cookie == 0);
    CHECK(static_cast<int64_t>(record.time_ns) >= before_ns - 1'000'000);
    CHECK(static_cast<int64_t>(record.time_ns) <= MonotonicNow());
    CHECK(records[i].headers == Bytes(bytes.begin(), bytes.begin() + record.header_len));
  }
  CHECK(records[0].fixed.header_len == 14 + 20 + 32);
  CHECK(records[1].fixed.header_len == 18 + 40 + 20);
}

TEST_CASE("Both directions come in the order of their times", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine;
  const Attachment near = engine.Attach("near");
  const Attachment far = engine.Attach("far");
  FrameSender from_near("near");
  FrameSender from_far("far");
  constexpr uint32_t kPackets = 500;
  for (uint32_t i = 0; i < kPackets; ++i)
    (i % 3 == 0 ? from_near : from_far).Send(Segment(i).bytes());
  // As egress of one and as ingress of the other.
  const std::vector<Record> records = engine.DrainUntil(2 * kPackets);
  REQUIRE(records.size() == 2 * kPackets);
  std::vector<Record> egress;
  for (size_t i = 0; i < records.size(); ++i) {
    if (i > 0) REQUIRE(records[i].fixed.time_ns >= records[i - 1].fixed.time_ns);
    if (records[i].fixed.direction == PH_EGRESS) egress.push_back(records[i]);
  }
  CHECK(NumbersOf(egress) == UpTo(kPackets));
}

TEST_CASE("A packet of loopback goes out and comes in", "[pcap]") {
  OwnNetwork network;
  Engine engine(kBufferBytes, Owners());
  const Attachment attachment = engine.Attach("lo");
  TcpPair tcp;
  tcp.Accept();
  const std::vector<Record> records = engine.Drain(/*most=*/1);
  CHECK(engine.Books("lo") == "ingress: seen 3, captured 3; egress: seen 3, captured 3");
  REQUIRE(records.size() == 6);
  const ph_flow_key client_key = tcp.client_key();
  const ph_flow_key server_key = tcp.server_key();
  for (size_t i = 0; i < 6; ++i) {
    INFO(i);
    const bool by_client = i / 2 != 1;
    const bool is_egress = i % 2 == 0;
    CHECK(records[i].fixed.direction == (is_egress ? PH_EGRESS : PH_INGRESS));
    CHECK(records[i].fixed.flow_hash ==
          ph_flow_hash(by_client == is_egress ? &client_key : &server_key, &kSeed));
    CHECK(records[i].headers == records[i / 2 * 2].headers);
  }
  // What the server sends comes before its socket, so the answer tells.
  const uint64_t client = CookieOf(tcp.client());
  const uint64_t server = CookieOf(tcp.server());
  const uint64_t cookies[] = {client, 0, 0, 0, client, server};
  for (size_t i = 0; i < 6; ++i) CHECK(records[i].fixed.socket_cookie == cookies[i]);
}

TEST_CASE("A flow that was there before has its owner from its first packet on", "[pcap]") {
  OwnNetwork network;
  Engine engine(kBufferBytes, Owners());
  TcpPair tcp;
  tcp.Accept();
  const uint64_t cookie = CookieOf(tcp.server());
  const Attachment attachment = engine.Attach("lo");
  REQUIRE(send(tcp.server().get(), "x", 1, 0) == 1);
  const std::vector<Record> records = engine.Drain();
  REQUIRE(records.size() >= 2);
  CHECK(records[0].fixed.socket_cookie == cookie);

  // What is answered for nobody is nobody's.
  const ph_flow_key key = tcp.server_key();
  tcp.client().Reset();
  engine.Drain();
  FrameSender("lo").Send(Packet()
                             .Ethernet()
                             .Ipv4("127.0.0.1", "127.0.0.1")
                             .Tcp(ntohs(key.remote_port_be) ^ 1, ntohs(key.local_port_be))
                             .bytes());
  for (const Record& record : engine.Drain()) CHECK(record.fixed.socket_cookie == 0);
}

TEST_CASE("A connection that is over before it is read has its owners", "[pcap]") {
  OwnNetwork network;
  Engine engine(kBufferBytes, Owners());
  const Attachment attachment = engine.Attach("lo");
  TcpPair tcp;
  tcp.Accept();
  const std::map<uint64_t, ph_flow_key> sockets = {{CookieOf(tcp.client()), tcp.client_key()},
                                                   {CookieOf(tcp.server()), tcp.server_key()}};
  // The client's is in TIME-WAIT then, the server's is gone.
  tcp.client().Reset();
  tcp.server().Reset();
  // Either a record tells, or the kernel after them.
  std::set<uint64_t> told;
  for (int waits = 0; told.size() < 2 && waits < 100; ++waits) {
    for (const Record& record : engine.Drain()) told.insert(record.fixed.socket_cookie);
    told.erase(0);
    for (const FlowOwner& owner : engine->source(0).TakeOwners()) {
      REQUIRE(sockets.count(owner.cookie) == 1);
      CHECK(std::memcmp(&owner.key, &sockets.at(owner.cookie), sizeof(owner.key)) == 0);
      CHECK(owner.flow_hash == ph_flow_hash(&owner.key, &kSeed));
      CHECK(owner.until_ns <= MonotonicNow());
      told.insert(owner.cookie);
    }
    engine->source(0).Wait(absl::Milliseconds(100));
  }
  std::set<uint64_t> expected;
  for (const auto& [cookie, key] : sockets) expected.insert(cookie);
  CHECK(told == expected);
}

TEST_CASE("What finds the buffer full is counted", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine(/*buffer_bytes=*/64 << 10);
  Attachment attachment = engine.Attach("near");
  FrameSender sender("near");
  constexpr uint32_t kPackets = 10'000;
  for (uint32_t i = 0; i < kPackets; ++i) sender.Send(Segment(i).bytes());
  attachment = {};
  const std::vector<Record> records = engine.Drain();
  CHECK(records.size() > 10);
  CHECK(records.size() < kPackets / 2);
  CHECK(NumbersOf(records) == UpTo(static_cast<uint32_t>(records.size())));
  const CounterArray egress = engine.Counters(InterfaceNamed("near").ifindex)[PH_EGRESS];
  CHECK(egress[PH_SEEN] == kPackets);
  CHECK(egress[PH_CAPTURED] == records.size());
  CHECK(egress[PH_RING_FULL] == kPackets - records.size());
}

TEST_CASE("A capture has its first packet after it began and its last before it ended", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine;
  FrameSender sender("near");
  sender.Send(Segment(1).bytes());
  Attachment attachment = engine.Attach("near");
  for (uint32_t i = 0; i < 100; ++i) sender.Send(Segment(i).bytes());
  attachment = {};
  sender.Send(Segment(1).bytes());
  engine->AwaitDetached();
  CHECK(NumbersOf(engine.Drain(/*most=*/7)) == UpTo(100));
  CHECK(engine.Books("near") == "ingress: ; egress: seen 100, captured 100");

  // Again, while what was before is not closed yet.
  attachment = engine.Attach("near");
  sender.Send(Segment(0).bytes());
  CHECK(NumbersOf(engine.Drain()) == UpTo(1));
  engine->Sweep(0, 0);
  sender.Send(Segment(0).bytes());
  CHECK(NumbersOf(engine.Drain()) == UpTo(1));
}

TEST_CASE("What comes while a capture begins is in no other direction", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine;
  FrameSender sender("far");
  std::atomic<bool> is_over{false};
  std::thread peer([&] {
    const Bytes frame = Segment(0).bytes();
    while (!is_over) sender.Send(frame);
  });
  for (int round = 0; round < 10; ++round) {
    const Attachment attachment = engine.Attach("near");
    engine.Drain();
  }
  is_over = true;
  peer.join();
  engine.Drain();
  const CountersByDirection counters = engine.Counters(InterfaceNamed("near").ifindex);
  CHECK(counters[PH_INGRESS][PH_SEEN] > 0);
  CHECK(counters[PH_EGRESS][PH_SEEN] == 0);
}

TEST_CASE("Interfaces come and go while the shard reads", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine(kBufferBytes, Owners());
  std::atomic<bool> is_over{false};
  std::atomic<size_t> used{0};
  std::thread shard([&] {
    const auto use = [&used](absl::Span<const RecordBytes> some) { used += some.size(); };
    RecordSource& source = engine->source(0);
    while (!is_over) {
      source.Wait(absl::Milliseconds(48));
      source.Drain(1000, use);
    }
    while (source.Drain(1000, use) > 0) {
    }
  });
  FrameSender sender("near");
  for (int round = 0; round < 10; ++round) {
    const Attachment attachment = engine.Attach("near");
    for (uint32_t i = 0; i < 100; ++i) sender.Send(Segment(i).bytes());
    if (round % 3 == 0) engine->Sweep(0, 0);
  }
  is_over = true;
  shard.join();
  CHECK(used == 1000);
  CHECK(engine.Books("near") == "ingress: ; egress: seen 1000, captured 1000");
}

TEST_CASE("An interface that vanishes takes nothing else with it", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  network.AddVeth("other", "another");
  Engine engine;
  Attachment near = engine.Attach("near");
  const Attachment other = engine.Attach("other");
  const uint32_t ifindex = InterfaceNamed("near").ifindex;
  FrameSender("near").Send(Segment(0).bytes());
  FrameSender("near").Send(Segment(1).bytes());
  network.Ip("link del near");
  CHECK(NumbersOf(engine.Drain()) == UpTo(2));
  CHECK(engine.Books(ifindex) == "ingress: ; egress: seen 2, captured 2");

  // Its end has been told; nothing is left to wake anybody.
  FrameSender("other").Send(Segment(0).bytes());
  CHECK(NumbersOf(engine.Drain()) == UpTo(1));
  near = {};
  CHECK(engine.Drain().empty());
  engine->Sweep(0, 0);
  FrameSender("other").Send(Segment(0).bytes());
  CHECK(NumbersOf(engine.Drain()) == UpTo(1));
}

TEST_CASE("An interface that went down is captured when it is up again", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine;
  const Attachment attachment = engine.Attach("near");
  network.Ip("link set near down");
  CHECK(engine.Drain().empty());
  network.Ip("link set near up");
  FrameSender("near").Send(Segment(0).bytes());
  CHECK(NumbersOf(engine.Drain()) == UpTo(1));
}

TEST_CASE("What can't be captured says why", "[pcap]") {
  OwnNetwork network;
  network.AddVeth("near", "far");
  Engine engine;
  network.Ip("link set near down");
  CHECK(engine->Attach(InterfaceNamed("near")).status() ==
        absl::UnavailableError("open near with libpcap: it is down"));
  NetworkInterface none;
  none.ifindex = 1000;
  none.name = "none";
  CHECK(engine->Attach(none).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("CAP_NET_RAW is enough, and needed", "[pcap]") {
  OwnNetwork network;
  Engine engine;
  const absl::Status without = AttachWith(0, *engine.operator->(), InterfaceNamed("lo"));
  CHECK(without.code() == absl::StatusCode::kPermissionDenied);
  CHECK(std::string(without.message()).find("CAP_NET_RAW") != std::string::npos);
  CHECK(AttachWith(1U << kCapNetRaw, *engine.operator->(), InterfaceNamed("lo")).ok());
}

}  // namespace
}  // namespace packet_headers::testing
