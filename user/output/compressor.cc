#include "user/output/compressor.h"

#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "user/base/out_of_memory.h"
#include "user/output/typical_flow.h"

namespace packet_headers {
namespace {

constexpr size_t kOutputBytes = 128 * 1024;

constexpr int kGzipLevel = 1;

// Whose codes members below kTypicalBytes get.
constexpr int kTypicalFlows = 64;

// The headers of a flow repeat what is near: on 16 MB of them, larger windows are slower and make
// larger frames.
constexpr int kZstdLevel = 3;
constexpr int kZstdWindowLog = 17;

class PassThrough final : public Compressor {
 private:
  void Begin(absl::string_view, bool) override {}
  absl::Status Compress(absl::string_view bytes, bool, Sink sink) override {
    return bytes.empty() ? absl::OkStatus() : sink(bytes);
  }
};

// Huffman codes for the headers of a short flow, made once, in 2 ms. Null if the library can't.
isal_hufftables* TypicalCodes() {
  static isal_hufftables* const codes = [] {
    const auto histogram = std::make_unique<isal_huff_histogram>();
    std::minstd_rand random;
    for (int i = 0; i < kTypicalFlows; ++i) {
      std::string flow = TypicalFlow(random);
      isal_update_histogram(reinterpret_cast<uint8_t*>(flow.data()), static_cast<int>(flow.size()),
                            histogram.get());
    }
    auto* const made = new isal_hufftables;  // for good
    return isal_create_hufftables(made, histogram.get()) == 0 ? made : nullptr;
  }();
  return codes;
}

class GzipCompressor final : public Compressor {
 public:
  GzipCompressor() : level_buffer_(ISAL_DEF_LVL1_DEFAULT), output_(kOutputBytes) {
    isal_deflate_init(&stream_);
    stream_.level_buf = level_buffer_.data();
    stream_.level_buf_size = level_buffer_.size();
  }

 private:
  void Begin(absl::string_view bytes, bool last) override {
    isal_deflate_reset(&stream_);
    if (last && bytes.size() < kTypicalBytes) {
      stream_.level = 0;
      isal_deflate_set_hufftables(
          &stream_, codes_, codes_ != nullptr ? IGZIP_HUFFTABLE_CUSTOM : IGZIP_HUFFTABLE_DEFAULT);
    } else {
      stream_.level = kGzipLevel;
    }
    stream_.gzip_flag = IGZIP_GZIP;  // which the library takes back once it wrote a header
  }

  absl::Status Compress(absl::string_view bytes, bool last, Sink sink) override {
    // The interface knows no const; the bytes are only read.
    stream_.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = bytes.size();
    stream_.end_of_stream = last;
    while (stream_.avail_in > 0 || (last && stream_.internal_state.state != ZSTATE_END)) {
      stream_.next_out = output_.data();
      stream_.avail_out = output_.size();
      const int error = isal_deflate(&stream_);
      if (error != COMP_OK) {
        return absl::InternalError(absl::StrCat("compress with gzip: isal_deflate says ", error));
      }
      const size_t ready = output_.size() - stream_.avail_out;
      if (ready == 0) continue;
      const absl::Status status =
          sink(absl::string_view(reinterpret_cast<const char*>(output_.data()), ready));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  isal_hufftables* const codes_ = TypicalCodes();
  isal_zstream stream_;
  std::vector<uint8_t> level_buffer_;
  std::vector<uint8_t> output_;
};

class ZstdCompressor final : public Compressor {
 public:
  ZstdCompressor() : context_(InsistOnMemory(ZSTD_createCCtx)), output_(kOutputBytes) {
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, kZstdLevel);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_windowLog, kZstdWindowLog);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 1);
  }

 private:
  struct Deleter {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };

  void Begin(absl::string_view, bool) override {
    ZSTD_CCtx_reset(context_.get(), ZSTD_reset_session_only);
  }

  absl::Status Compress(absl::string_view bytes, bool last, Sink sink) override {
    ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
    size_t more = 0;
    do {
      ZSTD_outBuffer out = {output_.data(), output_.size(), 0};
      more = ZSTD_compressStream2(context_.get(), &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
      if (ZSTD_isError(more)) {
        return absl::InternalError(absl::StrCat("compress with zstd: ", ZSTD_getErrorName(more)));
      }
      if (out.pos == 0) continue;
      const absl::Status status = sink(absl::string_view(output_.data(), out.pos));
      if (!status.ok()) return status;
    } while (last ? more > 0 : in.pos < in.size);
    return absl::OkStatus();
  }

  std::unique_ptr<ZSTD_CCtx, Deleter> context_;
  std::vector<char> output_;
};

}  // namespace

absl::string_view PcapExtension(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return ".pcap";
    case Compression::kGzip:
      return ".pcap.gz";
    case Compression::kZstd:
      return ".pcap.zst";
  }
  return "";
}

std::unique_ptr<Compressor> Compressor::Make(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return std::make_unique<PassThrough>();
    case Compression::kGzip:
      return std::make_unique<GzipCompressor>();
    case Compression::kZstd:
      return std::make_unique<ZstdCompressor>();
  }
  return nullptr;
}

absl::Status Compressor::Write(absl::string_view bytes, bool last, Sink sink) {
  if (!in_member_) {
    if (bytes.empty()) return absl::OkStatus();
    Begin(bytes, last);
  }
  const absl::Status status = Compress(bytes, last, sink);
  in_member_ = status.ok() && !last;
  return status;
}

}  // namespace packet_headers
