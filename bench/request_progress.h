// RequestProgress: how far a load run is, on stderr.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace beryl::bench {

class RequestProgress {
 public:
  // A bar that redraws itself on a terminal; otherwise a line now and then.
  RequestProgress(size_t num_requests, bool is_terminal);

  // One request is over.
  void add(int64_t output_tokens);
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void print(Clock::time_point now);

  const size_t num_requests_;
  const bool is_terminal_;
  const Clock::time_point start_;
  Clock::time_point last_print_;
  size_t num_done_ = 0;
  int64_t output_tokens_ = 0;
};

}  // namespace beryl::bench
