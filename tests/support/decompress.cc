#include "tests/support/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include "tests/support/catch.h"

namespace packet_headers::testing {
namespace {

// Reads one member and takes it from the front of `file`; false where it is not whole.
bool ReadGzipMember(std::string_view& file, std::string& bytes) {
  z_stream stream = {};
  constexpr int kGzipOnly = 16;
  REQUIRE(inflateInit2(&stream, MAX_WBITS + kGzipOnly) == Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.data()));
  stream.avail_in = file.size();
  int result;
  do {
    char out[4096];
    stream.next_out = reinterpret_cast<Bytef*>(out);
    stream.avail_out = sizeof(out);
    result = inflate(&stream, Z_NO_FLUSH);
    bytes.append(out, sizeof(out) - stream.avail_out);
  } while (result == Z_OK);
  file.remove_prefix(file.size() - stream.avail_in);
  inflateEnd(&stream);
  if (result != Z_STREAM_END && result != Z_BUF_ERROR) FAIL("zlib says " << result);
  return result == Z_STREAM_END;
}

bool ReadZstdFrame(std::string_view& file, std::string& bytes) {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  ZSTD_inBuffer in = {file.data(), file.size(), 0};
  size_t result;
  size_t produced;
  do {
    char out[4096];
    ZSTD_outBuffer out_buffer = {out, sizeof(out), 0};
    result = ZSTD_decompressStream(context, &out_buffer, &in);
    produced = out_buffer.pos;
    bytes.append(out, produced);
  } while (!ZSTD_isError(result) && result != 0 && (in.pos < in.size || produced > 0));
  ZSTD_freeDCtx(context);
  file.remove_prefix(in.pos);
  if (ZSTD_isError(result)) FAIL("libzstd says " << ZSTD_getErrorName(result));
  return result == 0;
}

}  // namespace

Decompressed Decompress(Compression compression, std::string_view file) {
  if (compression == Compression::kNone) return {std::string(file), 1};
  Decompressed all;
  while (!file.empty()) {
    std::string bytes;
    all.is_whole = compression == Compression::kGzip ? ReadGzipMember(file, bytes)
                                                     : ReadZstdFrame(file, bytes);
    if (!all.is_whole) {
      all.partial = bytes;
      break;
    }
    all.bytes += bytes;
    ++all.members;
  }
  return all;
}

}  // namespace packet_headers::testing
