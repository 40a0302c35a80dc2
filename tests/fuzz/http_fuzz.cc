// HTTP as a client sends it. First byte: in pieces of how many bytes it comes.

#include <fcntl.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "tests/fuzz/fuzz.h"
#include "user/service/http_connections.h"

namespace packet_headers::fuzz {
namespace {

constexpr size_t kPlaces = 4;
constexpr absl::string_view kBody = "what the route says\n";

class Client {
 public:
  explicit Client(HttpConnections& server) {
    int ends[2];
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    socket_.Reset(ends[0]);
    server.Adopt(UniqueFd(ends[1]), /*is_of_host=*/true, /*now_ns=*/0);
  }

  // Whether the server still listens.
  bool Send(absl::string_view bytes) {
    return send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  void EndSending() { shutdown(socket_.get(), SHUT_WR); }

  void Hear() {
    char buffer[4096];
    ssize_t size;
    while ((size = recv(socket_.get(), buffer, sizeof(buffer), 0)) > 0) heard_.append(buffer, size);
    is_over_ |= size == 0 || errno == ECONNRESET;
  }
  const std::string& heard() const { return heard_; }
  bool is_over() const { return is_over_; }

 private:
  UniqueFd socket_;
  std::string heard_;
  bool is_over_ = false;
};

// One answer, and no other behind it. 100 (RFC 9110, 15.2) may go before.
void CheckAnswer(absl::string_view answer) {
  if (answer.empty()) return;
  const auto is_status = [](absl::string_view line) {
    return (absl::StartsWith(line, "HTTP/1.1 ") || absl::StartsWith(line, "HTTP/1.0 ")) &&
           line.size() > 12 && absl::ascii_isdigit(line[9]) && absl::ascii_isdigit(line[10]) &&
           absl::ascii_isdigit(line[11]);
  };
  while (is_status(answer) && answer.substr(9, 3) == "100") {
    const size_t end = answer.find("\r\n\r\n");
    FUZZ_CHECK(end != absl::string_view::npos);
    answer.remove_prefix(end + 4);
    if (answer.empty()) return;
  }
  FUZZ_CHECK(is_status(answer));
  const absl::string_view status = answer.substr(9, 3);
  const size_t end = answer.find("\r\n\r\n");
  FUZZ_CHECK(end != absl::string_view::npos);
  const absl::string_view body = answer.substr(end + 4);
  if (status == "200") {
    FUZZ_CHECK(body.empty() || body == kBody);
  } else {
    // libmicrohttpd 0.9.75 sends the header of its own answer twice.
    FUZZ_CHECK(status[0] == '4' || status[0] == '5');
    FUZZ_CHECK(!absl::StrContains(body, kBody));
  }
}

}  // namespace
}  // namespace packet_headers::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace packet_headers;
  using namespace packet_headers::fuzz;
  Input input(data, size);
  const size_t piece_bytes = input.Byte() + size_t{1};
  int asked = 0;
  const auto answer = [&asked](const HttpArguments&) {
    ++asked;
    return HttpAnswer{.body = std::string(kBody)};
  };
  bool is_ready = false;
  const auto slow_answer = [&](const HttpArguments& arguments) -> std::optional<HttpAnswer> {
    if (!std::exchange(is_ready, true)) return std::nullopt;
    return answer(arguments);
  };
  absl::StatusOr<std::unique_ptr<HttpConnections>> server = HttpConnections::Make(
      {{"/metrics", {answer, /*is_for_all=*/true}},
       {"/flows", {slow_answer, /*is_for_all=*/false, /*takes_arguments=*/true}}},
      kPlaces);
  FUZZ_CHECK(server.ok());
  Client client(**server);
  bool listens = true;
  while (!input.empty() && listens) {
    listens = client.Send(input.Bytes(piece_bytes));
    (*server)->Step(/*now_ns=*/0);
    client.Hear();
  }
  // One request a connection, whatever it sends.
  FUZZ_CHECK(asked <= 1);
  client.EndSending();
  (*server)->Step(HttpConnections::kDeadlineNs);
  client.Hear();
  FUZZ_CHECK(client.is_over());
  FUZZ_CHECK((*server)->room() == kPlaces);
  CheckAnswer(client.heard());
  return 0;
}
