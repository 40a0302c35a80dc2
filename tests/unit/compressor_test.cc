#include "user/output/compressor.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/decompress.h"
#include "user/output/typical_flow.h"

namespace packet_headers::testing {
namespace {

constexpr Compression kReal[] = {Compression::kGzip, Compression::kZstd};

// Half of them compress well.
std::string SomeBytes(size_t size, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i / 50 % 2 == 0 ? random() : i % 50);
  }
  return bytes;
}

// Writes members with one compressor.
class Writer {
 public:
  explicit Writer(Compression compression) : compressor_(Compressor::Make(compression)) {}

  void Write(absl::string_view bytes, bool last = true) {
    const absl::Status status = compressor_->Write(bytes, last, [this](absl::string_view ready) {
      CHECK_FALSE(ready.empty());
      largest_ = std::max(largest_, ready.size());
      file_.append(ready.data(), ready.size());
      return absl::OkStatus();
    });
    CHECK(status.ok());
  }

  // The disk is full.
  absl::Status WriteInVain(absl::string_view bytes, bool last = true) {
    return compressor_->Write(
        bytes, last, [](absl::string_view) { return absl::ResourceExhaustedError("disk full"); });
  }

  const std::string& file() const { return file_; }
  size_t largest() const { return largest_; }  // of what came at once

 private:
  const std::unique_ptr<Compressor> compressor_;
  std::string file_;
  size_t largest_ = 0;
};

TEST_CASE("A file's name tells its compression", "[compressor]") {
  CHECK(PcapExtension(Compression::kNone) == ".pcap");
  CHECK(PcapExtension(Compression::kGzip) == ".pcap.gz");
  CHECK(PcapExtension(Compression::kZstd) == ".pcap.zst");
}

TEST_CASE("Without compression bytes pass as they are", "[compressor]") {
  Writer writer(Compression::kNone);
  writer.Write("one ", /*last=*/false);
  CHECK(writer.file() == "one ");
  writer.Write("", /*last=*/true);
  writer.Write("two");
  CHECK(writer.file() == "one two");
  CHECK_FALSE(writer.WriteInVain("three").ok());
}

TEST_CASE("What was compressed is read by others", "[compressor]") {
  for (const Compression compression : kReal) {
    for (const size_t size : {1, 24, 1000, 100'000, 3'000'000}) {
      CAPTURE(static_cast<int>(compression), size);
      const std::string bytes = SomeBytes(size);
      Writer writer(compression);
      writer.Write(bytes);
      const Decompressed read = Decompress(compression, writer.file());
      CHECK(read.is_whole);
      CHECK(read.members == 1);
      CHECK((read.bytes == bytes));
      if (size >= 1000) CHECK(writer.file().size() < size / 4 * 3);
    }
  }
}

TEST_CASE("Headers of a short flow need no codes of their own", "[compressor]") {
  std::minstd_rand random(2);  // not the compressor's own examples
  size_t with_typical_codes = 0;
  size_t with_own_codes = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string flow = TypicalFlow(random);
    Writer typical(Compression::kGzip);
    typical.Write(flow);
    const Decompressed read = Decompress(Compression::kGzip, typical.file());
    CHECK(read.is_whole);
    CHECK((read.bytes == flow));
    with_typical_codes += typical.file().size();
    Writer own(Compression::kGzip);
    own.Write(flow, /*last=*/false);  // more could come
    own.Write("", /*last=*/true);
    with_own_codes += own.file().size();
  }
  CHECK(with_typical_codes < with_own_codes * 11 / 10);
}

TEST_CASE("Members of kTypicalBytes have codes of their own, smaller ones don't", "[compressor]") {
  // Codes of their own suit these better by far, for headers hold them seldom.
  std::mt19937 random(1);
  std::string bytes(kTypicalBytes, '\0');
  for (char& byte : bytes) byte = "\x9d\xab\xb9\xd6"[random() % 4];
  Writer own(Compression::kGzip);
  own.Write(bytes);
  Writer typical(Compression::kGzip);
  typical.Write(absl::string_view(bytes).substr(1));
  CHECK(typical.file().size() > own.file().size() * 5 / 4);
}

TEST_CASE("Pieces up to the last are one member", "[compressor]") {
  for (const Compression compression : kReal) {
    // The last may be empty.
    for (const size_t piece : {7, 999, 131'072, 150'000}) {
      CAPTURE(static_cast<int>(compression), piece);
      const std::string bytes = SomeBytes(300'000);
      Writer writer(compression);
      for (size_t at = 0; at < bytes.size(); at += piece) {
        writer.Write(absl::string_view(bytes).substr(at, piece), /*last=*/false);
      }
      writer.Write("", /*last=*/true);
      const Decompressed read = Decompress(compression, writer.file());
      CHECK(read.is_whole);
      CHECK(read.members == 1);
      CHECK((read.bytes == bytes));
    }
  }
}

TEST_CASE("A member without bytes is not written", "[compressor]") {
  for (const Compression compression : kReal) {
    Writer writer(compression);
    writer.Write("", /*last=*/false);
    writer.Write("", /*last=*/true);
    CHECK(writer.file().empty());
    writer.Write("some");
    CHECK(Decompress(compression, writer.file()).members == 1);
  }
}

TEST_CASE("Of a file that was cut off, every whole member can be read", "[compressor]") {
  for (const Compression compression : kReal) {
    CAPTURE(static_cast<int>(compression));
    Writer writer(compression);
    std::string bytes[3];
    size_t ends[3];
    for (int i = 0; i < 3; ++i) {
      bytes[i] = SomeBytes(900, i);
      writer.Write(absl::string_view(bytes[i]).substr(0, 600), /*last=*/false);
      writer.Write(absl::string_view(bytes[i]).substr(600), /*last=*/true);
      ends[i] = writer.file().size();
    }
    const std::string whole[] = {"", bytes[0], bytes[0] + bytes[1], bytes[0] + bytes[1] + bytes[2]};
    for (size_t size = 0; size <= writer.file().size(); ++size) {
      const int members = std::upper_bound(ends, ends + 3, size) - ends;
      const Decompressed read = Decompress(compression, writer.file().substr(0, size));
      if (read.members != members || read.bytes != whole[members] ||
          read.is_whole != (size == (members == 0 ? 0 : ends[members - 1])) ||
          (members < 3 && bytes[members].rfind(read.partial, 0) != 0)) {
        FAIL("cut off after " << size << " bytes: " << read.members << " members");
      }
    }
  }
}

TEST_CASE("The same bytes make the same member, whatever came before", "[compressor]") {
  for (const Compression compression : kReal) {
    CAPTURE(static_cast<int>(compression));
    const std::string bytes = SomeBytes(200'000);
    Writer fresh(compression);
    fresh.Write(bytes);
    Writer used(compression);
    used.Write(SomeBytes(1'000'000, 2), /*last=*/false);
    used.Write(SomeBytes(777, 3));
    const size_t before = used.file().size();
    used.Write(bytes);
    CHECK((used.file().substr(before) == fresh.file()));
  }
}

TEST_CASE("A gzip header holds no time and no name", "[compressor]") {
  Writer writer(Compression::kGzip);
  writer.Write("some");
  REQUIRE(writer.file().size() > 10);
  CHECK(writer.file().substr(0, 8) == std::string("\x1f\x8b\x08\0\0\0\0\0", 8));
}

TEST_CASE("A member whose bytes nobody takes does not harm the next", "[compressor]") {
  for (const Compression compression : kReal) {
    CAPTURE(static_cast<int>(compression));
    const std::string bytes = SomeBytes(200'000);
    Writer fresh(compression);
    fresh.Write(bytes);
    Writer writer(compression);
    const absl::Status at_its_end = writer.WriteInVain("some");
    CHECK(at_its_end.message() == "disk full");
    const absl::Status on_the_way = writer.WriteInVain(SomeBytes(1'000'000), /*last=*/false);
    CHECK(on_the_way.message() == "disk full");
    writer.Write(bytes);
    CHECK((writer.file() == fresh.file()));
  }
}

TEST_CASE("A zstd frame has a checksum", "[compressor]") {
  Writer writer(Compression::kZstd);
  writer.Write("some");
  constexpr int kChecksumFlag = 4;  // of the byte behind the magic number (RFC 8878, 3.1.1.1.1)
  CHECK((writer.file().at(4) & kChecksumFlag) != 0);
}

TEST_CASE("What comes at once does not grow with the member", "[compressor]") {
  for (const Compression compression : kReal) {
    std::string noise(8 << 20, '\0');
    std::mt19937 random;
    for (char& byte : noise) byte = static_cast<char>(random());
    Writer writer(compression);
    writer.Write(noise);
    CHECK(writer.largest() <= 128 * 1024);
    CHECK((Decompress(compression, writer.file()).bytes == noise));
  }
}

}  // namespace
}  // namespace packet_headers::testing
