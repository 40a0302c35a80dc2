#include "user/output/address_text.h"

#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

TEST_CASE("Only what is mapped is written as IPv4", "[address]") {
  const auto text = [](const char* address) {
    return AddressText(FlowKey(address, 1, address, 2).local_addr);
  };
  CHECK(text("192.0.2.1") == "192.0.2.1");
  CHECK(text("::ffff:192.0.2.1") == "192.0.2.1");
  // RFC 2765: translated, not mapped.
  CHECK(text("::ffff:0:192.0.2.1") == "::ffff:0:c000:201");
  CHECK(text("::ffff") == "::ffff");
  CHECK(text("2001:db8::1") == "2001:db8::1");
}

}  // namespace
}  // namespace packet_headers::testing
