// What the code under test logs.

#ifndef PACKET_HEADERS_TESTS_SUPPORT_CAPTURED_LOG_H_
#define PACKET_HEADERS_TESTS_SUPPORT_CAPTURED_LOG_H_

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "spdlog/sinks/base_sink.h"
#include "spdlog/spdlog.h"

namespace packet_headers::testing {

// Takes the place of the default logger until the end of the scope.
class CapturedLog {
 public:
  CapturedLog() { spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink_)); }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;
  ~CapturedLog() { spdlog::set_default_logger(std::move(before_)); }

  // The lines so far, as they were given to the logger.
  std::vector<std::string> Lines() const { return sink_->Lines(); }

  // Waits for a line that holds `text`.
  void WaitFor(const std::string& text) const { sink_->WaitFor(text); }

 private:
  class Sink : public spdlog::sinks::base_sink<std::mutex> {
   public:
    std::vector<std::string> Lines() const {
      const std::scoped_lock lock(lines_mutex_);
      return lines_;
    }

    void WaitFor(const std::string& text) const {
      const auto is_there = [this, &text] {
        return std::any_of(lines_.begin(), lines_.end(), [&text](const std::string& line) {
          return line.find(text) != std::string::npos;
        });
      };
      std::unique_lock lock(lines_mutex_);
      added_.wait(lock, is_there);
    }

   protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
      {
        const std::scoped_lock lock(lines_mutex_);
        lines_.emplace_back(message.payload.data(), message.payload.size());
      }
      added_.notify_all();
    }
    void flush_() override {}

   private:
    mutable std::mutex lines_mutex_;  // guards lines_
    mutable std::condition_variable added_;
    std::vector<std::string> lines_;
  };

  const std::shared_ptr<Sink> sink_ = std::make_shared<Sink>();
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

}  // namespace packet_headers::testing

#endif  // PACKET_HEADERS_TESTS_SUPPORT_CAPTURED_LOG_H_
