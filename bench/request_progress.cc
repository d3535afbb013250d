#include "bench/request_progress.h"

#include <fmt/format.h>

#include <cstdio>
#include <string>

namespace beryl::bench {
namespace {

constexpr size_t kBarWidth = 30;  // columns
constexpr std::chrono::milliseconds kTerminalInterval{100};
constexpr std::chrono::seconds kLogInterval{10};

}  // namespace

RequestProgress::RequestProgress(size_t num_requests, bool is_terminal)
    : num_requests_(num_requests),
      is_terminal_(is_terminal),
      start_(Clock::now()),
      last_print_(start_) {}

void RequestProgress::add(int64_t output_tokens) {
  ++num_done_;
  output_tokens_ += output_tokens;
  const Clock::time_point now = Clock::now();
  const bool is_due =
      is_terminal_ ? now - last_print_ >= kTerminalInterval : now - last_print_ >= kLogInterval;
  if (is_due) print(now);
}

void RequestProgress::finish() {
  print(Clock::now());
  if (is_terminal_) fmt::print(stderr, "\n");
}

void RequestProgress::print(Clock::time_point now) {
  last_print_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const std::string figures =
      fmt::format("{}/{} requests, {:.0f} s, {:.0f} tok/s", num_done_, num_requests_, seconds,
                  seconds > 0 ? static_cast<double>(output_tokens_) / seconds : 0.0);
  if (!is_terminal_) {
    fmt::print(stderr, "{}\n", figures);
    return;
  }
  const size_t filled = num_requests_ == 0 ? kBarWidth : kBarWidth * num_done_ / num_requests_;
  fmt::print(stderr, "\r[{}{}] {}", std::string(filled, '='), std::string(kBarWidth - filled, ' '),
             figures);
  std::fflush(stderr);
}

}  // namespace beryl::bench
