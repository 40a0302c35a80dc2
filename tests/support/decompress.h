// Reads compressed files by zlib and libzstd.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_DECOMPRESS_H_
#define PACKET_HEADERS_TESTS_SUPPORT_DECOMPRESS_H_

#include <string>
#include <string_view>

#include "user/output/compressor.h"

namespace packet_headers::testing {

struct Decompressed {
  std::string bytes;         // of the whole members
  int members = 0;           // that are whole
  bool is_whole = true;      // nothing comes behind them
  std::string partial = "";  // what can be read of the one that is not whole
};

// The test fails where the input is not a file of `compression` or the start of one. Without
// compression all is one member.
Decompressed Decompress(Compression compression, std::string_view file);

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_DECOMPRESS_H_
