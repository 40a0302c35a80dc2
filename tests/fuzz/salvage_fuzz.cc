// What a run that died left, or somebody else put there.

#include <fcntl.h>

#include <memory>
#include <string>

#include "tests/fuzz/fuzz.h"
#include "user/output/salvage.h"
#include "user/output/unpacked_file.h"

namespace packet_headers::fuzz {
namespace {

// What the file holds up to its damage.
std::string Unpacked(const MemoryFile& memory) {
  const auto file = UnpackedFile::Open(memory.path());
  FUZZ_CHECK(file.ok());
  std::string content;
  std::string buffer(UnpackedFile::kReadBytes, '\0');
  while (true) {
    const absl::StatusOr<size_t> got = (*file)->Read(buffer.data(), buffer.size());
    if (!got.ok() || *got == 0) return content;
    content.append(buffer, 0, *got);
  }
}

absl::StatusOr<WholeRecords> WholeOf(absl::string_view content) {
  const auto file = UnpackedFile::Open(MemoryFile(content).path());
  FUZZ_CHECK(file.ok());
  return FindWholeRecords(**file);
}

uint32_t Number(absl::string_view content, size_t at) {
  uint32_t number;
  std::memcpy(&number, content.data() + at, sizeof(number));
  return number;
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers;
  using namespace packet_headers::fuzz;
  Input input(data, size);
  const absl::string_view stored = input.Rest();
  const absl::StatusOr<WholeRecords> whole = WholeOf(stored);
  if (!whole.ok()) return 0;
  const std::string content = Unpacked(MemoryFile(stored));
  FUZZ_CHECK(whole->bytes >= 0 && whole->bytes <= static_cast<int64_t>(content.size()));
  FUZZ_CHECK((whole->bytes == 0) == (whole->packets == 0));
  if (whole->bytes == 0) return 0;
  FUZZ_CHECK(!whole->is_all || whole->bytes == static_cast<int64_t>(content.size()));

  // It is a pcap of whole records whose times don't go back.
  constexpr size_t kFileHeaderBytes = 24;
  constexpr size_t kRecordHeaderBytes = 16;
  const absl::string_view kept = absl::string_view(content).substr(0, whole->bytes);
  FUZZ_CHECK(Number(kept, 0) == 0xa1b23c4d);
  size_t at = kFileHeaderBytes;
  int64_t packets = 0;
  int64_t last_ns = 0;
  for (; at < kept.size(); ++packets) {
    FUZZ_CHECK(kept.size() - at >= kRecordHeaderBytes);
    const int64_t time_ns = Number(kept, at) * int64_t{1'000'000'000} + Number(kept, at + 4);
    FUZZ_CHECK(time_ns >= last_ns);
    last_ns = time_ns;
    at += kRecordHeaderBytes + Number(kept, at + 8);
  }
  FUZZ_CHECK(at == kept.size() && packets == whole->packets);
  // What is kept is kept again, and all of it.
  const absl::StatusOr<WholeRecords> again = WholeOf(kept);
  FUZZ_CHECK(again.ok() && again->is_all && again->bytes == whole->bytes);
  return 0;
}
