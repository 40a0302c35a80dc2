#include "user/capture/capture_file.h"

#include <isa-l/igzip_lib.h>
#include <pcap/dlt.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "tests/support/scratch_directory.h"
#include "user/base/unique_fd.h"

namespace packet_headers::testing {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr uint32_t kMicroMagic = 0xa1b2c3d4;
constexpr uint32_t kNanoMagic = 0xa1b23c4d;

struct Captured {
  int64_t time_ns;
  uint32_t wire_bytes;
  Bytes bytes;
  bool operator==(const Captured&) const = default;
};

// What a file gave, and how it ended.
struct Reading {
  std::vector<Captured> packets;
  absl::Status status;
  uint64_t times_clamped = 0;
  std::string message() const { return std::string(status.message()); }
};

Reading ReadAll(CaptureFile& file) {
  Reading reading;
  while (true) {
    const absl::StatusOr<const CapturedFrame*> next = file.Next();
    reading.status = next.status();
    if (!next.ok() || *next == nullptr) break;
    const Frame& frame = (*next)->frame;
    reading.packets.push_back({(*next)->time_ns, frame.wire_bytes,
                               Bytes(frame.bytes, frame.bytes + frame.captured_bytes)});
  }
  reading.times_clamped = file.times_clamped();
  CHECK(file.packets() == reading.packets.size());
  return reading;
}

Reading ReadAll(const std::string& path) {
  const absl::StatusOr<std::unique_ptr<CaptureFile>> file = CaptureFile::Open(path);
  if (!file.ok()) return {{}, file.status()};
  return ReadAll(**file);
}

bool IsPrefix(const std::vector<Captured>& packets, const std::vector<Captured>& all) {
  return packets.size() <= all.size() && std::equal(packets.begin(), packets.end(), all.begin());
}

// Bytes of numbers in one byte order or the other.
class Writer {
 public:
  explicit Writer(bool big_endian = false) : big_endian_(big_endian) {}

  Writer& U16(uint16_t value) { return Number(value, 2); }
  Writer& U32(uint32_t value) { return Number(value, 4); }
  Writer& Raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  Writer& Raw(const Bytes& bytes) {
    return Raw({reinterpret_cast<const char*>(&bytes[0]), bytes.size()});
  }
  Writer& Pad() {
    bytes_.resize((bytes_.size() + 3) / 4 * 4);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }
  bool big_endian() const { return big_endian_; }

 private:
  Writer& Number(uint32_t value, int size) {
    for (int i = 0; i < size; ++i) {
      bytes_ += static_cast<char>(value >> 8 * (big_endian_ ? size - 1 - i : i));
    }
    return *this;
  }

  const bool big_endian_;
  std::string bytes_;
};

std::vector<Captured> SomePackets(int count, int64_t unit_ns) {
  std::vector<Captured> packets;
  for (int i = 0; i < count; ++i) {
    const Bytes bytes = Packet()
                            .Ethernet()
                            .Ipv4("192.0.2.1", "198.51.100.7")
                            .Tcp(443, 50000)
                            .Seq(i)
                            .Payload(i % 7 * 3)
                            .bytes();
    packets.push_back({1'700'000'000 * kSecond + i * kSecond / 3 / unit_ns * unit_ns,
                       static_cast<uint32_t>(bytes.size() + i % 2 * 1000), bytes});
  }
  return packets;
}

void AddRecord(Writer& writer, uint32_t seconds, uint32_t fraction, uint32_t wire_bytes,
               const Bytes& bytes) {
  writer.U32(seconds).U32(fraction).U32(bytes.size()).U32(wire_bytes).Raw(bytes);
}

Writer PcapHeader(uint32_t magic, bool big_endian = false, uint32_t link_type = DLT_EN10MB) {
  Writer writer(big_endian);
  writer.U32(magic).U16(2).U16(4).U32(0).U32(0).U32(262'144).U32(link_type);
  return writer;
}

std::string Pcap(const std::vector<Captured>& packets, uint32_t magic = kNanoMagic,
                 bool big_endian = false) {
  Writer writer = PcapHeader(magic, big_endian);
  for (const Captured& packet : packets) {
    AddRecord(writer, packet.time_ns / kSecond,
              packet.time_ns % kSecond / (magic == kNanoMagic ? 1 : 1000), packet.wire_bytes,
              packet.bytes);
  }
  return writer.bytes();
}

void AddBlock(Writer& writer, uint32_t type, const std::string& body) {
  const uint32_t size = body.size() + 12;
  writer.U32(type).U32(size).Raw(body).U32(size);
}

void AddInterface(Writer& writer, uint16_t link_type, uint8_t resolution) {
  Writer body(writer.big_endian());
  body.U16(link_type).U16(0).U32(0);
  // if_tsresol, end of options
  body.U16(9).U16(1).Raw({reinterpret_cast<const char*>(&resolution), 1}).Pad().U16(0).U16(0);
  AddBlock(writer, 1, body.bytes());
}

Writer PcapngHeader(bool big_endian = false) {
  Writer writer(big_endian);
  Writer body(big_endian);
  body.U32(0x1a2b3c4d).U16(1).U16(0).U32(UINT32_MAX).U32(UINT32_MAX);
  AddBlock(writer, 0x0a0d0d0a, body.bytes());
  return writer;
}

void AddPacket(Writer& writer, uint32_t interface, uint64_t time, const Captured& packet) {
  Writer body(writer.big_endian());
  body.U32(interface).U32(time >> 32).U32(static_cast<uint32_t>(time));
  body.U32(packet.bytes.size()).U32(packet.wire_bytes).Raw(packet.bytes).Pad();
  AddBlock(writer, 6, body.bytes());
}

// `resolution` is the negative power of 10 of a second.
std::string Pcapng(const std::vector<Captured>& packets, uint8_t resolution, bool big_endian) {
  Writer writer = PcapngHeader(big_endian);
  AddInterface(writer, DLT_EN10MB, resolution);
  for (const Captured& packet : packets) {
    AddPacket(writer, 0, packet.time_ns / (resolution == 9 ? 1 : 1000), packet);
  }
  return writer.bytes();
}

std::string Gzip(std::string_view bytes) {
  std::string packed(bytes.size() + 1000, '\0');
  auto stream = std::make_unique<isal_zstream>();
  isal_deflate_init(stream.get());
  stream->gzip_flag = IGZIP_GZIP;
  stream->end_of_stream = 1;
  stream->next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(bytes.data()));
  stream->avail_in = bytes.size();
  stream->next_out = reinterpret_cast<uint8_t*>(packed.data());
  stream->avail_out = packed.size();
  REQUIRE(isal_deflate(stream.get()) == COMP_OK);
  packed.resize(stream->total_out);
  return packed;
}

// Blocks of `block_bytes`.
std::string Zstd(std::string_view bytes, size_t block_bytes = SIZE_MAX) {
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                                   ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string packed(ZSTD_compressBound(bytes.size()) + bytes.size(), '\0');
  ZSTD_outBuffer output = {packed.data(), packed.size(), 0};
  while (bytes.size() > block_bytes) {
    ZSTD_inBuffer input = {bytes.data(), block_bytes, 0};
    REQUIRE(ZSTD_compressStream2(context.get(), &output, &input, ZSTD_e_flush) == 0);
    bytes.remove_prefix(block_bytes);
  }
  ZSTD_inBuffer input = {bytes.data(), bytes.size(), 0};
  REQUIRE(ZSTD_compressStream2(context.get(), &output, &input, ZSTD_e_end) == 0);
  packed.resize(output.pos);
  return packed;
}

// A file of every kind, of the same packets.
std::vector<std::pair<std::string, std::string>> FilesOf(const std::vector<Captured>& packets) {
  const std::string pcap = Pcap(packets);
  const std::string_view view = pcap;
  const size_t third = pcap.size() / 3;
  return {
      {"nanoseconds.pcap", pcap},
      {"swapped.pcap", Pcap(packets, kNanoMagic, true)},
      {"little.pcapng", Pcapng(packets, 9, false)},
      {"big.pcapng", Pcapng(packets, 9, true)},
      {"one.pcap.gz", Gzip(pcap)},
      {"three.pcap.gz", Gzip(view.substr(0, third)) + Gzip(view.substr(third, third)) +
                            Gzip(view.substr(2 * third))},
      {"one.pcap.zst", Zstd(pcap)},
      {"blocks.pcap.zst", Zstd(pcap, 100)},
      {"two.pcap.zst", Zstd(view.substr(0, third)) + Zstd(view.substr(third))},
  };
}

TEST_CASE("Files of every kind give their packets to the nanosecond", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(50, 1);
  for (const auto& [name, bytes] : FilesOf(packets)) {
    INFO(name);
    const Reading reading = ReadAll(scratch.Write(name, bytes));
    CHECK(reading.message() == "");
    CHECK(reading.packets == packets);
    CHECK(reading.times_clamped == 0);
  }
}

TEST_CASE("Files of microseconds give their packets", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(5, 1000);
  for (const bool big_endian : {false, true}) {
    CHECK(ReadAll(scratch.Write("a", Pcap(packets, kMicroMagic, big_endian))).packets == packets);
    CHECK(ReadAll(scratch.Write("b", Pcapng(packets, 6, big_endian))).packets == packets);
  }
}

TEST_CASE("A file without packets just ends", "[capture_file]") {
  const ScratchDirectory scratch;
  for (const auto& [name, bytes] : FilesOf({})) {
    INFO(name);
    const Reading reading = ReadAll(scratch.Write(name, bytes));
    CHECK(reading.message() == "");
    CHECK(reading.packets.empty());
  }
}

TEST_CASE("Big files are the same, whatever the pieces they come in", "[capture_file]") {
  const ScratchDirectory scratch;
  std::vector<Captured> packets = SomePackets(20'000, 1);
  // Bytes that don't compress, too.
  std::minstd_rand random(1);
  for (size_t i = 0; i < packets.size(); i += 2) {
    for (uint8_t& byte : packets[i].bytes) byte = static_cast<uint8_t>(random());
  }
  for (const auto& [name, bytes] : FilesOf(packets)) {
    INFO(name);
    const std::string path = scratch.Write(name, bytes);
    const auto file = CaptureFile::Open(path);
    REQUIRE(file.ok());
    CHECK((*file)->size_bytes() == static_cast<int64_t>(bytes.size()));
    CHECK((*file)->bytes_read() > 0);
    CHECK((*file)->bytes_read() < static_cast<int64_t>(bytes.size()));
    const Reading reading = ReadAll(**file);
    CHECK(reading.message() == "");
    CHECK((reading.packets == packets));
    CHECK((*file)->bytes_read() == static_cast<int64_t>(bytes.size()));
  }
}

TEST_CASE("A pipe is read, in pieces as they come", "[capture_file]") {
  const std::vector<Captured> packets = SomePackets(20, 1);
  for (const auto& [name, bytes] : FilesOf(packets)) {
    INFO(name);
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const UniqueFd out(ends[0]);
    std::thread writer([&bytes = bytes, in = UniqueFd(ends[1])] {
      for (const char& byte : bytes) {
        if (write(in.get(), &byte, 1) != 1) break;
      }
    });
    // As a shell does with `-read -`.
    const UniqueFd stdin_before(dup(STDIN_FILENO));
    dup2(out.get(), STDIN_FILENO);
    const auto file = CaptureFile::Open("-");
    const Reading reading = file.ok() ? ReadAll(**file) : Reading{{}, file.status()};
    dup2(stdin_before.get(), STDIN_FILENO);
    writer.join();
    REQUIRE(file.ok());
    CHECK(reading.message() == "");
    CHECK(reading.packets == packets);
    CHECK((*file)->size_bytes() == 0);
    CHECK((*file)->bytes_read() == static_cast<int64_t>(bytes.size()));
    CHECK((*file)->name() == "standard input");
  }
}

TEST_CASE("A file cut off anywhere gives the packets before", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(4, 1);
  for (const auto& [name, bytes] : FilesOf(packets)) {
    size_t most = 0;
    for (size_t size = 0; size < bytes.size(); ++size) {
      INFO(name << " cut off at " << size);
      const Reading reading =
          ReadAll(scratch.Write(absl::StrCat(size, name), bytes.substr(0, size)));
      CHECK(IsPrefix(reading.packets, packets));
      CHECK(reading.packets.size() >= most);
      most = std::max(most, reading.packets.size());
      // At the end of a packet there is nothing to be seen of it.
      if (!reading.status.ok() && !reading.packets.empty()) {
        CHECK(absl::StrContains(
            reading.message(),
            absl::StrCat("stopped after ", reading.packets.size(), " packets, near byte ")));
      }
      if (absl::EndsWith(name, "one.pcap.gz") || absl::EndsWith(name, "one.pcap.zst")) {
        CHECK_FALSE(reading.status.ok());
      }
    }
    // Compressed data ends with a checksum, in which no packet is.
    const bool is_compressed = absl::StrContains(name, ".pcap.");
    CHECK(most == packets.size() - (is_compressed ? 0 : 1));
  }
}

TEST_CASE("Damage is told with its place, and stays", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(3, 1);
  std::string bytes = Pcap(packets);
  const size_t third = 24 + 2 * 16 + packets[0].bytes.size() + packets[1].bytes.size();
  bytes.replace(third + 8, 4, "\xff\xff\xff\x7f");
  const std::string path = scratch.Write("damaged.pcap", bytes);

  const auto file = CaptureFile::Open(path);
  REQUIRE(file.ok());
  const Reading reading = ReadAll(**file);
  CHECK(reading.packets.size() == 2);
  CHECK(absl::StartsWith(reading.message(),
                         absl::StrCat("read ", path, ": stopped after 2 packets, near byte ",
                                      third + 16, ": invalid packet capture length 2147483647")));
  CHECK((*file)->Next().status() == reading.status);
}

TEST_CASE("Damage within compressed data comes after the blocks before", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(3000, 1);
  const std::string pcap = Pcap(packets);
  const std::string_view view = pcap;
  const size_t half = 24 + 16 + packets[0].bytes.size();

  std::string gzip = Gzip(view.substr(0, half));
  const size_t second = gzip.size();
  gzip += Gzip(view.substr(half));
  std::string bad = gzip;
  bad[second + 10] = '\x07';  // a block of the type that isn't
  Reading reading = ReadAll(scratch.Write("block.pcap.gz", bad));
  CHECK(IsPrefix(reading.packets, packets));
  CHECK(reading.packets.size() == 1);
  CHECK(absl::StrContains(reading.message(),
                          "of what it unpacks to: its gzip data "
                          "is damaged: invalid block; the packets before"));

  bad = gzip;
  bad[bad.size() - 5] ^= 1;  // in the checksum
  reading = ReadAll(scratch.Write("checksum.pcap.gz", bad));
  CHECK((reading.packets == packets));
  CHECK(absl::StrContains(reading.message(), "wrong checksum"));

  // The second of many blocks.
  const std::string zstd = Zstd(pcap, 1000);
  bad = zstd;
  for (size_t i = bad.size() / 2; i < bad.size() / 2 + 100; ++i) bad[i] = '\xff';
  reading = ReadAll(scratch.Write("blocks.pcap.zst", bad));
  CHECK(IsPrefix(reading.packets, packets));
  CHECK(reading.packets.size() > packets.size() / 3);
  CHECK(absl::StrContains(reading.message(), "its zstd data is damaged: "));

  bad = zstd;
  bad.back() ^= 1;
  reading = ReadAll(scratch.Write("checksum.pcap.zst", bad));
  CHECK((reading.packets == packets));
  CHECK(absl::StrContains(reading.message(), "checksum"));
}

TEST_CASE("Zeros may follow gzip data, other bytes are told", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(3, 1);
  const std::string gzip = Gzip(Pcap(packets));
  Reading reading = ReadAll(scratch.Write("zeros.gz", gzip + std::string(1'000'000, '\0')));
  CHECK(reading.message() == "");
  CHECK(reading.packets == packets);
  reading = ReadAll(scratch.Write("garbage.gz", gzip + "garbage that is long enough for a header"));
  CHECK(absl::StrContains(reading.message(), "what follows is no gzip data"));
  CHECK(reading.packets == packets);
}

TEST_CASE("zstd data may have frames to be skipped, and a long window", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(3, 1);
  const std::string pcap = Pcap(packets);
  const std::string skipped = Writer().U32(0x184d2a53).U32(5).Raw("hello").bytes();
  const Reading reading = ReadAll(scratch.Write("a.zst", skipped + Zstd(pcap) + skipped));
  CHECK(reading.message() == "");
  CHECK(reading.packets == packets);

  // A frame of one raw block, its window as in `zstd --long=27`, and one bit more.
  const auto with_window = [&](char log) {
    const uint32_t block = 1 | static_cast<uint32_t>(pcap.size()) << 3;
    std::string frame("\x28\xb5\x2f\xfd\0", 5);
    frame += static_cast<char>((log - 10) << 3);
    return frame + Writer().U32(block).bytes().substr(0, 3) + pcap;
  };
  CHECK(ReadAll(scratch.Write("b.zst", with_window(27))).packets == packets);
  CHECK(absl::StrContains(ReadAll(scratch.Write("c.zst", with_window(28))).message(), "memory"));
}

TEST_CASE("Times outside of what a pcap can say become its edges, and are counted",
          "[capture_file]") {
  const ScratchDirectory scratch;
  const Bytes bytes(60, 0);
  Writer pcap = PcapHeader(kMicroMagic);
  AddRecord(pcap, 0, 0, 60, bytes);
  AddRecord(pcap, 0x80000000, 1, 60, bytes);  // 2038
  AddRecord(pcap, UINT32_MAX, 999'999, 60, bytes);
  AddRecord(pcap, UINT32_MAX, 1'000'000, 60, bytes);
  AddRecord(pcap, 7, 1'500'000, 60, bytes);
  Reading reading = ReadAll(scratch.Write("edges.pcap", pcap.bytes()));
  REQUIRE(reading.packets.size() == 5);
  CHECK(reading.packets[0].time_ns == 0);
  CHECK(reading.packets[1].time_ns == 0x80000000 * kSecond + 1000);
  CHECK(reading.packets[2].time_ns == UINT32_MAX * kSecond + 999'999'000);
  CHECK(reading.packets[3].time_ns == UINT32_MAX * kSecond + 999'999'999);
  CHECK(reading.packets[4].time_ns == 8 * kSecond + 500'000'000);
  CHECK(reading.times_clamped == 1);

  // Whole seconds, so that there are many of them.
  Writer pcapng = PcapngHeader();
  AddInterface(pcapng, DLT_EN10MB, 0);
  for (const uint64_t seconds : {uint64_t{5}, UINT64_MAX / 2, UINT64_MAX - (uint64_t{1} << 40)}) {
    AddPacket(pcapng, 0, seconds, {0, 60, bytes});
  }
  reading = ReadAll(scratch.Write("edges.pcapng", pcapng.bytes()));
  REQUIRE(reading.packets.size() == 3);
  CHECK(reading.packets[0].time_ns == 5 * kSecond);
  CHECK(reading.packets[1].time_ns == UINT32_MAX * kSecond + 999'999'999);
  CHECK(reading.packets[2].time_ns == 0);
  CHECK(reading.times_clamped == 2);
}

TEST_CASE("Link types say how frames begin", "[capture_file]") {
  const ScratchDirectory scratch;
  const auto open = [&](uint32_t link_type) {
    Writer pcap = PcapHeader(kNanoMagic, false, link_type);
    AddRecord(pcap, 1, 2, 40, Bytes(40, 0));
    return CaptureFile::Open(scratch.Write("file.pcap", pcap.bytes()));
  };
  const auto format = [&](uint32_t link_type) {
    const auto file = open(link_type);
    REQUIRE(file.ok());
    const auto next = (*file)->Next();
    REQUIRE(next.ok());
    return (*next)->frame.format;
  };
  CHECK(format(1).link_layer == PH_LINK_ETHERNET);
  CHECK(format(101).link_layer == PH_LINK_IP);  // LINKTYPE_RAW, which is not DLT_RAW
  CHECK(format(101).skipped_bytes == 0);
  CHECK(format(113).link_layer == PH_LINK_IP);  // Linux cooked
  CHECK(format(113).skipped_bytes == 16);
  CHECK(absl::EndsWith(open(105).status().message(),
                       "file.pcap: packets of link type 105 (802.11) can't be read"));
  CHECK(absl::EndsWith(open(4000).status().message(), "link type 4000 (DLT 4000) can't be read"));
}

TEST_CASE("Interfaces of one link type are read together, of two they are an error",
          "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(4, 1000);
  Writer pcapng = PcapngHeader();
  AddInterface(pcapng, DLT_EN10MB, 9);
  AddInterface(pcapng, DLT_EN10MB, 6);
  for (const Captured& packet : packets) {
    const bool fine = packet.wire_bytes % 2 == 0;
    AddPacket(pcapng, fine ? 0 : 1, packet.time_ns / (fine ? 1 : 1000), packet);
  }
  CHECK(ReadAll(scratch.Write("two.pcapng", pcapng.bytes())).packets == packets);

  AddInterface(pcapng, 101, 9);
  const Reading reading = ReadAll(scratch.Write("mixed.pcapng", pcapng.bytes()));
  CHECK(reading.packets == packets);
  CHECK(absl::StrContains(reading.message(), "stopped after 4 packets"));
  CHECK(absl::StrContains(reading.message(), "different from the type of the first interface"));
}

TEST_CASE("What is no capture is told by name", "[capture_file]") {
  const ScratchDirectory scratch;
  const auto message = [](const std::string& path) {
    const absl::Status status = CaptureFile::Open(path).status();
    INFO(status.message());
    CHECK(absl::StartsWith(status.message(), absl::StrCat("read ", path, ": ")));
    return std::string(status.message());
  };
  using absl::EndsWith;
  using absl::StrContains;
  CHECK(EndsWith(message(scratch.Path("none")), ": No such file or directory"));
  CHECK(EndsWith(message(scratch.Path()), ": Is a directory"));
  CHECK(EndsWith(message(scratch.Write("empty", "")), ": it is empty"));
  CHECK(EndsWith(message(scratch.Write("empty.gz", Gzip(""))), ": it is empty"));
  CHECK(EndsWith(message(scratch.Write("empty.zst", Zstd(""))), ": it is empty"));
  CHECK(StrContains(message(scratch.Write("text", "Lorem ipsum dolor sit amet, consectetur")),
                    "not a capture of pcap or pcapng: unknown file format"));
  CHECK(StrContains(message(scratch.Write("short", "\xd4\xc3")), "not a capture"));
  CHECK(StrContains(message(scratch.Write("text.gz", Gzip("Lorem ipsum dolor sit amet"))),
                    "not a capture"));
  CHECK(StrContains(message(scratch.Write("half.gz", Gzip("Lorem ipsum").substr(0, 8))),
                    "its gzip data ends in the middle"));
  CHECK(StrContains(message(scratch.Write("half.zst", Zstd("Lorem ipsum").substr(0, 8))),
                    "its zstd data ends in the middle"));
  CHECK(StrContains(message(scratch.Write("bad.gz", "\x1f\x8bnothing of the kind, this")),
                    "its gzip data is damaged: unknown method"));
}

TEST_CASE("Mutated files end, with no more packets than they can hold", "[capture_file]") {
  const ScratchDirectory scratch;
  const std::vector<Captured> packets = SomePackets(6, 1);
  std::minstd_rand random(20);
  for (const auto& [name, bytes] : FilesOf(packets)) {
    INFO(name);
    for (int round = 0; round < 100; ++round) {
      std::string mutant = bytes;
      for (uint32_t changes = 1 + random() % 4; changes > 0; --changes) {
        const size_t at = random() % mutant.size();
        switch (random() % 3) {
          case 0:
            mutant[at] = static_cast<char>(random());
            break;
          case 1:
            mutant[at] = "\0\x7f\x80\xff"[random() % 4];
            break;
          default:
            mutant.insert(at, mutant.substr(random() % mutant.size(), random() % 40));
        }
      }
      // A record is of 16 bytes at least, and deflate makes up to 1032 of one.
      CHECK(ReadAll(scratch.Write(absl::StrCat(round, name), mutant)).packets.size() <=
            mutant.size() * 1032 / 16);
    }
  }
}

}  // namespace
}  // namespace packet_headers::testing
