#include "user/output/scrub_options.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "tests/support/catch.h"
#include "tests/support/packet.h"

namespace packet_headers::testing {
namespace {

constexpr uint8_t kX = 0xa5;  // what must go

Bytes Filled(Bytes bytes, size_t size, uint8_t filling = kX) {
  bytes.resize(size, filling);
  return bytes;
}

// The part of the packet that begins at `begin` and was `size` bytes long, scrubbed.
Bytes Scrubbed(const Packet& packet, Scrub scrub, size_t begin, size_t size) {
  Bytes frame = packet.bytes();
  frame.resize(packet.header_length());
  ScrubOptions({.bytes = frame.data(),
                .size = frame.size(),
                .l3_offset = packet.l3_offset(),
                .l4_offset = packet.l4_offset(),
                .link_layer = PH_LINK_IP,
                .direction = PH_INGRESS},
               scrub);
  return Bytes(frame.begin() + begin, frame.begin() + begin + size);
}

Bytes ScrubbedTcp(const Bytes& options, Scrub scrub) {
  const Packet packet = Packet().Ipv4("192.0.2.1", "192.0.2.2").Tcp(1, 2).RawTcpOptions(options);
  return Scrubbed(packet, scrub, 40, options.size());
}

Bytes ScrubbedIpv4(const Bytes& options, Scrub scrub) {
  const Packet packet = Packet().Ipv4("192.0.2.1", "192.0.2.2").RawIpv4Options(options).Tcp(1, 2);
  return Scrubbed(packet, scrub, 20, options.size());
}

Bytes ScrubbedExtension(uint8_t type, const Bytes& header, Scrub scrub) {
  const Packet packet =
      Packet().Ipv6("2001:db8::1", "2001:db8::2").Extension(type, header).Tcp(1, 2);
  Bytes scrubbed = Scrubbed(packet, scrub, 40, header.size());
  CHECK(scrubbed[0] == PH_IPPROTO_TCP);
  scrubbed[0] = header[0];
  return scrubbed;
}

TEST_CASE("TCP options that hold no address stay", "[scrub]") {
  const Bytes options = GENERATE(values<Bytes>({
      {2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7},
      Filled({1, 1, 5, 34}, 36),
      {28, 4, 9, 9},
      Filled({30, 20, 0x20}, 20),  // data sequence signal
  }));
  CHECK(ScrubbedTcp(options, Scrub::kAddresses) == options);
  CHECK(ScrubbedTcp(options, Scrub::kPadding) == options);
}

TEST_CASE("Of other TCP options type and length stay", "[scrub]") {
  const auto [before, after] = GENERATE(table<Bytes, Bytes>({
      {Filled({34, 16}, 16), Filled({34, 16}, 16, 0)},              // Fast Open cookie
      {Filled({1, 1, 19, 18}, 20), Filled({1, 1, 19, 18}, 20, 0)},  // MD5
      {Filled({29, 16}, 16), Filled({29, 16}, 16, 0)},              // authentication
      {Filled({30, 12, 0x01}, 12), Filled({30, 12, 0x01}, 12, 0)},  // multipath: keys
      {Filled({30, 16, 0x30}, 16), Filled({30, 16, 0x30}, 16, 0)},  // an address and its digest
      {Filled({30, 12, 0x10}, 12), Filled({30, 12, 0x10}, 12, 0)},  // join
      {Filled({253, 12}, 12), Filled({253, 12}, 12, 0)},            // experimental
      {Filled({99, 12}, 12), Filled({99, 12}, 12, 0)},
      // More than the RFC knows.
      {Filled({2, 12, 5, 180}, 12), Filled({2, 12, 5, 180}, 12, 0)},
      {Filled({3, 12, 7}, 12), Filled({3, 12, 7}, 12, 0)},
      {Filled({4, 12}, 12), Filled({4, 12}, 12, 0)},
      {Filled({8, 16, 1, 2, 3, 4, 5, 6, 7, 8}, 16), Filled({8, 16, 1, 2, 3, 4, 5, 6, 7, 8}, 16, 0)},
      // What follows is found.
      {{34, 3, kX, 2, 4, 5, 180, 0}, {34, 3, 0, 2, 4, 5, 180, 0}},
  }));
  CHECK(ScrubbedTcp(before, Scrub::kAddresses) == after);
  CHECK(ScrubbedTcp(before, Scrub::kPadding) == before);
}

TEST_CASE("Of IPv4 options pointers stay, but no address", "[scrub]") {
  const uint8_t type = GENERATE(7, 131, 137);
  const Bytes route = Filled({1, type, 39, 36}, 40);
  CHECK(ScrubbedIpv4(route, Scrub::kAddresses) == Filled({1, type, 39, 36}, 40, 0));
  CHECK(ScrubbedIpv4(route, Scrub::kPadding) == route);
  CHECK(ScrubbedIpv4(Filled({68, 36, 13, 0x01}, 36), Scrub::kAddresses) ==
        Filled({68, 36, 13, 0x01}, 36, 0));
  CHECK(ScrubbedIpv4(Filled({134, 12}, 12), Scrub::kAddresses) == Filled({134, 12}, 12, 0));
  CHECK(ScrubbedIpv4({148, 4, 0, 0}, Scrub::kAddresses) == Bytes{148, 4, 0, 0});
}

TEST_CASE("Of IPv6 extension headers types and lengths stay, but no address", "[scrub]") {
  const uint8_t list = GENERATE(PH_IPPROTO_HOPOPTS, PH_IPPROTO_DSTOPTS);
  const Bytes jumbo = {0, 0, 0xc2, 4, 0, 1, 2, 3};
  CHECK(ScrubbedExtension(list, jumbo, Scrub::kAddresses) == jumbo);
  const Bytes home = Filled({0, 2, 1, 2, 0, 0, 0xc9, 16}, 24);
  CHECK(ScrubbedExtension(list, home, Scrub::kAddresses) ==
        Filled({0, 2, 1, 2, 0, 0, 0xc9, 16}, 24, 0));
  CHECK(ScrubbedExtension(list, home, Scrub::kPadding) == home);

  CHECK(ScrubbedExtension(PH_IPPROTO_ROUTING, Filled({0, 4, 4, 1}, 40), Scrub::kAddresses) ==
        Filled({0, 4, 4, 1}, 40, 0));
  CHECK(ScrubbedExtension(PH_IPPROTO_MH, Filled({0, 2, 5, 0}, 24), Scrub::kAddresses) ==
        Filled({0, 2, 5, 0}, 24, 0));
  const Bytes digest = {0, 4, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  CHECK(ScrubbedExtension(PH_IPPROTO_AH, Filled(digest, 24), Scrub::kAddresses) ==
        Filled(digest, 24, 0));
  const Bytes fragment = {0, 0, 0, 1, 9, 9, 9, 9};
  CHECK(ScrubbedExtension(PH_IPPROTO_FRAGMENT, fragment, Scrub::kAddresses) == fragment);
  for (const uint8_t type : {PH_IPPROTO_ROUTING, PH_IPPROTO_MH, PH_IPPROTO_AH}) {
    const Bytes header = Filled({0, uint8_t(type == PH_IPPROTO_AH ? 4 : 2)}, 24);
    CHECK(ScrubbedExtension(type, header, Scrub::kPadding) == header);
  }
}

TEST_CASE("What no end reads is zeroed in any case", "[scrub]") {
  const Scrub scrub = GENERATE(Scrub::kPadding, Scrub::kAddresses);
  for (const auto& scrubbed : {ScrubbedTcp, ScrubbedIpv4}) {
    CHECK(scrubbed(Filled({1, 0}, 40), scrub) == Filled({1}, 40, 0));      // behind the end
    CHECK(scrubbed(Filled({1, kX, 0}, 40), scrub) == Filled({1}, 40, 0));  // lengths that can't be
    CHECK(scrubbed(Filled({1, kX, 1}, 40), scrub) == Filled({1}, 40, 0));
    CHECK(scrubbed(Filled({1, kX, 40}, 40), scrub) == Filled({1}, 40, 0));
    CHECK(scrubbed({1, 1, 1, kX}, scrub) == Bytes{1, 1, 1, 0});  // no room for a length
  }
  for (const uint8_t list : {PH_IPPROTO_HOPOPTS, PH_IPPROTO_DSTOPTS}) {
    CHECK(ScrubbedExtension(list, Filled({0, 2, 1, 20}, 24), scrub) ==
          Filled({0, 2, 1, 20}, 24, 0));  // padding that isn't empty
    CHECK(ScrubbedExtension(list, Filled({0, 2, 0, 9, 30}, 24), scrub) == Filled({0, 2}, 24, 0));
    CHECK(ScrubbedExtension(list, {0, 0, 1, 3, 9, 9, 9, 9}, scrub) ==
          Bytes{0, 0, 1, 3, 0, 0, 0, 0});
  }
}

TEST_CASE("Of any options some bytes become zero and nothing else happens", "[scrub]") {
  const unsigned seed = 20240229;
  std::mt19937 random(seed);
  INFO("seed " << seed);
  const auto only_zeroed = [](const Bytes& before, const Bytes& after) {
    return std::equal(before.begin(), before.end(), after.begin(), after.end(),
                      [](uint8_t b, uint8_t a) { return a == b || a == 0; });
  };
  for (int run = 0; run < 30'000; ++run) {
    Bytes options(8 * (1 + random() % 5));
    for (uint8_t& byte : options) byte = random() % 2 == 0 ? random() % 12 : random();
    for (const Scrub scrub : {Scrub::kPadding, Scrub::kAddresses}) {
      for (const auto& scrubbed : {ScrubbedTcp, ScrubbedIpv4}) {
        const Bytes after = scrubbed(options, scrub);
        REQUIRE(only_zeroed(options, after));
        REQUIRE(scrubbed(after, scrub) == after);
      }
      options[1] = options.size() / 8 - 1;
      REQUIRE(only_zeroed(options, ScrubbedExtension(PH_IPPROTO_HOPOPTS, options, scrub)));
      REQUIRE(only_zeroed(options, ScrubbedExtension(PH_IPPROTO_ROUTING, options, scrub)));
    }
  }
}

}  // namespace
}  // namespace packet_headers::testing
