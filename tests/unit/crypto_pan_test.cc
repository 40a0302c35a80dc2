#include "user/output/crypto_pan.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/packet.h"
#include "tests/support/scratch_directory.h"

namespace packet_headers::testing {
namespace {

// The key and the addresses of sample.cpp and sample_trace_sanitized.dat in Crypto-PAn 1.0.
constexpr uint8_t kSampleKey[] = {21,  34, 23,  141, 51, 164, 207, 128, 19,  10,  91,
                                  22,  73, 144, 125, 16, 216, 152, 143, 131, 121, 121,
                                  101, 39, 98,  87,  76, 45,  42,  132, 34,  2};
constexpr char kSampleHex[] = "1522178d33a4cf80130a5b1649907d10d8988f837979652762574c2d2a842202";

constexpr struct {
  const char* address;
  const char* pseudonym;
} kSample[] = {
    {"128.11.68.132", "135.242.180.132"},   {"129.118.74.4", "134.136.186.123"},
    {"130.132.252.244", "133.68.164.234"},  {"141.223.7.43", "141.167.8.160"},
    {"141.233.145.108", "141.129.237.235"}, {"152.163.225.39", "151.140.114.167"},
    {"156.29.3.236", "147.225.12.42"},      {"165.247.96.84", "162.9.99.234"},
    {"166.107.77.190", "160.132.178.185"},  {"192.102.249.13", "252.138.62.131"},
    {"192.215.32.125", "252.43.47.189"},    {"192.233.80.103", "252.25.108.8"},
    {"192.41.57.43", "252.222.221.184"},    {"193.150.244.223", "253.169.52.216"},
    {"195.205.63.100", "255.186.223.5"},    {"198.200.171.101", "249.199.68.213"},
    {"198.26.132.101", "249.36.123.202"},   {"198.36.213.5", "249.7.21.132"},
    {"198.51.77.238", "249.18.186.254"},    {"199.217.79.101", "248.38.184.213"},
    {"202.49.198.20", "245.206.7.234"},     {"203.12.160.252", "244.248.163.4"},
    {"204.184.162.189", "243.192.77.90"},   {"204.202.136.230", "243.178.4.198"},
    {"204.29.20.4", "243.33.20.123"},       {"205.178.38.67", "242.108.198.51"},
    {"205.188.147.153", "242.96.16.101"},   {"205.188.248.25", "242.96.88.27"},
    {"205.245.121.43", "242.21.121.163"},   {"207.105.49.5", "241.118.205.138"},
    {"207.135.65.238", "241.202.129.222"},  {"207.155.9.214", "241.220.250.22"},
    {"207.188.7.45", "241.255.249.220"},    {"207.25.71.27", "241.33.119.156"},
    {"207.33.151.131", "241.1.233.131"},    {"208.147.89.59", "227.237.98.191"},
    {"208.234.120.210", "227.154.67.17"},   {"208.28.185.184", "227.39.94.90"},
    {"208.52.56.122", "227.8.63.165"},      {"209.12.231.7", "226.243.167.8"},
    {"209.238.72.3", "226.6.119.243"},      {"209.246.74.109", "226.22.124.76"},
    {"209.68.60.238", "226.184.220.233"},   {"209.85.249.6", "226.170.70.6"},
    {"212.120.124.31", "228.135.163.231"},  {"212.146.8.236", "228.19.4.234"},
    {"212.186.227.154", "228.59.98.98"},    {"212.204.172.118", "228.71.195.169"},
    {"212.206.130.201", "228.69.242.193"},  {"216.148.237.145", "235.84.194.111"},
    {"216.157.30.252", "235.89.31.26"},     {"216.184.159.48", "235.96.225.78"},
    {"216.227.10.221", "235.28.253.36"},    {"216.254.18.172", "235.7.16.162"},
    {"216.32.132.250", "235.192.139.38"},   {"216.35.217.178", "235.195.157.81"},
    {"24.0.250.221", "100.15.198.226"},     {"24.13.62.231", "100.2.192.247"},
    {"24.14.213.138", "100.1.42.141"},      {"24.5.0.80", "100.9.15.210"},
    {"24.7.198.88", "100.10.6.25"},         {"24.94.26.44", "100.88.228.35"},
    {"38.15.67.68", "64.3.66.187"},         {"4.3.88.225", "124.60.155.63"},
    {"63.14.55.111", "95.9.215.7"},         {"63.195.241.44", "95.179.238.44"},
    {"63.97.7.140", "95.97.9.123"},         {"64.14.118.196", "0.255.183.58"},
    {"64.34.154.117", "0.221.154.117"},     {"64.39.15.238", "0.219.7.41"},
    {"10.185.25.118", "117.161.29.118"},
};

// The reference is for IPv4 only; these are of the Go and Rust implementations in use.
constexpr struct {
  const char* address;
  const char* pseudonym;
} kIpv6Sample[] = {
    {"::1", "78ff:f001:9fc0:20df:8380:b1f1:704:ed"},
    {"::2", "78ff:f001:9fc0:20df:8380:b1f1:704:ef"},
    {"::ffff", "78ff:f001:9fc0:20df:8380:b1f1:704:f838"},
    {"2001:db8::1", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1e"},
    {"2001:db8::2", "4401:2bc:603f:d91d:27f:ff8e:e6f1:dc1c"},
};

std::string SampleKey() { return {reinterpret_cast<const char*>(kSampleKey), sizeof(kSampleKey)}; }

std::string Text(int family, const uint8_t* address) {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(family, address, text, sizeof(text));
}

std::string PseudonymOf(const CryptoPan& pan, const char* address) {
  uint8_t bytes[16];
  if (inet_pton(AF_INET, address, bytes) == 1) {
    pan.ReplaceIpv4(bytes);
    return Text(AF_INET, bytes);
  }
  REQUIRE(inet_pton(AF_INET6, address, bytes) == 1);
  pan.ReplaceIpv6(bytes);
  return Text(AF_INET6, bytes);
}

size_t CommonBits(const Bytes& a, const Bytes& b) {
  size_t bit = 0;
  while (bit < 8 * a.size() && ((a[bit / 8] ^ b[bit / 8]) & 0x80 >> bit % 8) == 0) ++bit;
  return bit;
}

TEST_CASE("The published sample of Crypto-PAn comes out", "[cryptopan]") {
  const auto pan = *CryptoPan::Make(SampleKey());
  for (const auto& [address, pseudonym] : kSample) {
    CHECK(PseudonymOf(*pan, address) == pseudonym);
  }
  for (const auto& [address, pseudonym] : kIpv6Sample) {
    CHECK(PseudonymOf(*pan, address) == pseudonym);
  }
}

TEST_CASE("Pseudonyms have as many first bits in common as addresses", "[cryptopan]") {
  const auto pan = *CryptoPan::Make(SampleKey());
  const unsigned seed = 20240229;
  std::mt19937 random(seed);
  INFO("seed " << seed);
  for (const size_t bytes : {4, 16}) {
    const auto replace = [&pan](Bytes address) {
      address.size() == 4 ? pan->ReplaceIpv4(address.data()) : pan->ReplaceIpv6(address.data());
      return address;
    };
    for (int run = 0; run < 1000; ++run) {
      Bytes one(bytes);
      for (uint8_t& byte : one) byte = static_cast<uint8_t>(random());
      Bytes other = one;
      const size_t differs_at = random() % (8 * bytes);
      other[differs_at / 8] ^= 0x80 >> differs_at % 8;
      for (size_t at = differs_at / 8 + 1; at < bytes; ++at) other[at] = random();
      REQUIRE(CommonBits(replace(one), replace(other)) == differs_at);
    }
  }
}

TEST_CASE("Another key gives other pseudonyms", "[cryptopan]") {
  const size_t changed = GENERATE(0, 31);  // of AES, of the pad
  std::string key = SampleKey();
  key[changed] ^= 1;
  CHECK(PseudonymOf(**CryptoPan::Make(key), "192.0.2.1") !=
        PseudonymOf(**CryptoPan::Make(SampleKey()), "192.0.2.1"));
}

// A key file that is as it should be but for what a test changes.
struct KeyFile {
  explicit KeyFile(const std::string& content) : path(folder.Write("key", content)) {
    REQUIRE(chmod(path.c_str(), 0600) == 0);
  }

  std::string Error() const {
    const auto pan = CryptoPan::FromFile(path);
    return pan.ok() ? "" : std::string(pan.status().message());
  }

  ScratchDirectory folder;
  std::string path;
};

TEST_CASE("A key file holds 32 bytes or 64 hex digits", "[cryptopan][keyfile]") {
  const std::string content =
      GENERATE(SampleKey(), std::string(kSampleHex), std::string(kSampleHex) + "\n");
  const KeyFile file(content);
  const auto pan = CryptoPan::FromFile(file.path);
  REQUIRE(pan.ok());
  CHECK(PseudonymOf(**pan, kSample[0].address) == kSample[0].pseudonym);
}

TEST_CASE("What is no key is refused", "[cryptopan][keyfile]") {
  const std::string content =
      GENERATE(std::string(), SampleKey() + "\n", SampleKey().substr(1),
               std::string(kSampleHex) + "\n\n", std::string(kSampleHex) + "0",
               std::string(kSampleHex).substr(1) + "g", std::string(100'000, 'a'));
  const KeyFile file(content);
  CHECK(file.Error() == "key file " + file.path +
                            ": it holds neither 32 bytes nor 64 hexadecimal digits (`head -c 32 "
                            "/dev/urandom` makes a key)");
}

TEST_CASE("A key file that others may open is refused", "[cryptopan][keyfile]") {
  const KeyFile file(SampleKey());
  for (const mode_t mode : {0640, 0620, 0610, 0604, 0602, 0601, 0644}) {
    REQUIRE(chmod(file.path.c_str(), mode) == 0);
    CHECK_THAT(file.Error(), Catch::Contains("lets others than its owner open it: `chmod 600` it"));
  }
  REQUIRE(chmod(file.path.c_str(), 0400) == 0);
  CHECK(file.Error() == "");
}

TEST_CASE("A key file of somebody else is refused", "[cryptopan][keyfile]") {
  if (geteuid() != 0) {
    WARN("skipped: only root can give files away");
    return;
  }
  const KeyFile file(SampleKey());
  REQUIRE(chown(file.path.c_str(), 12345, 0) == 0);
  CHECK_THAT(file.Error(), Catch::Contains("it belongs to user 12345"));
}

TEST_CASE("A key file is a regular file, perhaps behind a link", "[cryptopan][keyfile]") {
  const KeyFile file(SampleKey());
  const std::string other = file.folder.Path("other");
  SECTION("a pipe, which does not block") { REQUIRE(mkfifo(other.c_str(), 0600) == 0); }
  SECTION("a folder") { REQUIRE(mkdir(other.c_str(), 0700) == 0); }
  SECTION("a device") { REQUIRE(symlink("/dev/zero", other.c_str()) == 0); }
  SECTION("a link") {
    REQUIRE(symlink(file.path.c_str(), other.c_str()) == 0);
    CHECK(CryptoPan::FromFile(other).ok());
    return;
  }
  SECTION("nothing") {
    CHECK(CryptoPan::FromFile(other).status().message() ==
          "key file " + other + ": open it: No such file or directory");
    return;
  }
  CHECK(CryptoPan::FromFile(other).status().message() ==
        "key file " + other + ": it is no regular file");
}

}  // namespace
}  // namespace packet_headers::testing
