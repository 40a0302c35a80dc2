#include "user/service/log.h"

#include <unistd.h>

#include <csignal>
#include <mutex>
#include <utility>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/ansicolor_sink.h"
#include "spdlog/sinks/base_sink.h"
#include "spdlog/spdlog.h"
#include "user/service/status_line.h"

namespace packet_headers {
namespace {

constexpr char kPattern[] = "%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v";

// An object a line, whatever bytes the text holds.
class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    using nlohmann::ordered_json;
    const auto level = spdlog::level::to_string_view(message.level);
    const ordered_json line = {
        {"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::FromChrono(message.time),
                                  absl::UTCTimeZone())},
        {"level", std::string(level.data(), level.size())},
        {"message", std::string(message.payload.data(), message.payload.size())}};
    const std::string text =
        line.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace);
    out.append(text.data(), text.data() + text.size());
    out.push_back('\n');
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JsonFormatter>();
  }
};

}  // namespace

class LogSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LogSink(LogFormat format) : is_json_(format == LogFormat::kJson) {
    if (is_json_) {
      stderr_.set_formatter(std::make_unique<JsonFormatter>());
    } else {
      stderr_.set_pattern(kPattern);
    }
  }

  void ShowStatus(std::string text) {
    const std::scoped_lock lock(mutex_);
    text_ = std::move(text);
    DrawStatus();
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    status_.Clear();
    stderr_.log(message);
    DrawStatus();
  }
  void flush_() override { stderr_.flush(); }

 private:
  void DrawStatus() {
    if (text_.empty() || is_json_) {
      status_.Clear();
    } else {
      status_.Show(text_);
    }
  }

  const bool is_json_;
  spdlog::sinks::ansicolor_stderr_sink_st stderr_;
  StatusLine status_{STDERR_FILENO};
  std::string text_;  // empty: there is none
};

Log::Log(LogFormat format) : sink_(std::make_shared<LogSink>(format)) {
  std::signal(SIGPIPE, SIG_IGN);  // who reads it may leave
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("packet-headers", sink_));
}

void Log::ShowStatus(std::string text) { sink_->ShowStatus(std::move(text)); }

}  // namespace packet_headers
