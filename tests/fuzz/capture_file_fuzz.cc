// Capture files. First byte: how the rest is wrapped before it is read, 0 not at all, 1 by gzip, 2
// by zstd.

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "tests/fuzz/fuzz.h"
#include "user/capture/capture_file.h"

namespace packet_headers::fuzz {
namespace {

constexpr int64_t kYear2106Ns = (int64_t{1} << 32) * 1'000'000'000;

struct Reading {
  bool opened = false;
  bool whole = false;
  std::vector<std::pair<int64_t, std::string>> packets;
  uint64_t times_clamped = 0;
};

Reading Read(absl::string_view content) {
  const MemoryFile memory(content);
  Reading reading;
  const absl::StatusOr<std::unique_ptr<CaptureFile>> file = CaptureFile::Open(memory.path());
  if (!file.ok()) {
    FUZZ_CHECK(!file.status().message().empty());
    return reading;
  }
  reading.opened = true;
  while (true) {
    const absl::StatusOr<const CapturedFrame*> next = (*file)->Next();
    reading.whole = next.ok();
    if (!next.ok()) {
      FUZZ_CHECK((*file)->Next().status() == next.status());
      break;
    }
    if (*next == nullptr) break;
    const CapturedFrame& captured = **next;
    FUZZ_CHECK(captured.time_ns >= 0 && captured.time_ns < kYear2106Ns);
    // Copied, so that the address sanitizer sees each byte read.
    reading.packets.emplace_back(captured.time_ns,
                                 std::string(reinterpret_cast<const char*>(captured.frame.bytes),
                                             captured.frame.captured_bytes));
  }
  FUZZ_CHECK((*file)->packets() == reading.packets.size());
  FUZZ_CHECK((*file)->bytes_read() <= static_cast<int64_t>(content.size()));
  reading.times_clamped = (*file)->times_clamped();
  FUZZ_CHECK(reading.times_clamped <= reading.packets.size());
  return reading;
}

std::string Gzip(absl::string_view content) {
  isal_zstream stream;
  isal_deflate_init(&stream);
  std::string packed(content.size() + content.size() / 8 + 1024, '\0');
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(content.data()));
  stream.avail_in = content.size();
  stream.next_out = reinterpret_cast<uint8_t*>(packed.data());
  stream.avail_out = packed.size();
  FUZZ_CHECK(isal_deflate(&stream) == COMP_OK && stream.internal_state.state == ZSTATE_END);
  packed.resize(stream.total_out);
  return packed;
}

std::string Zstd(absl::string_view content) {
  std::string packed(ZSTD_compressBound(content.size()), '\0');
  packed.resize(
      ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), /*level=*/1));
  return packed;
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers::fuzz;
  Input input(data, size);
  const uint8_t wrapper = input.Byte();
  const absl::string_view content = input.Rest();
  const Reading plain = Read(content);
  if (wrapper != 1 && wrapper != 2) return 0;

  const Reading unwrapped = Read(wrapper == 1 ? Gzip(content) : Zstd(content));
  // A wrapper within a wrapper is not looked for.
  const bool is_wrapped = absl::StartsWith(content, "\x1f\x8b") ||
                          absl::StartsWith(content, "\x28\xb5\x2f\xfd") ||
                          (content.size() > 3 && content.substr(1, 3) == "\x2a\x4d\x18");
  if (is_wrapped) return 0;
  FUZZ_CHECK(unwrapped.opened == plain.opened && unwrapped.whole == plain.whole);
  FUZZ_CHECK(unwrapped.packets == plain.packets);
  FUZZ_CHECK(unwrapped.times_clamped == plain.times_clamped);
  return 0;
}
