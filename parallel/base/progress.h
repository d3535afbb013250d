// Progress of a long job in bytes: counted from any thread, reported now and then to one listener.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <mutex>
#include <string>

namespace beryl::base {

struct ProgressState {
  size_t done_bytes = 0;
  size_t total_bytes = 0;
  double bytes_per_s = 0;  // mean since the start
  bool finished = false;
};

using ProgressListener = std::function<void(const ProgressState&)>;

class Progress {
 public:
  // The listener is called by one thread at a time, at most once an `interval`, and by finish().
  Progress(size_t total_bytes, ProgressListener listener,
           std::chrono::milliseconds interval = std::chrono::milliseconds{100});

  void add(size_t num_bytes);
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  ProgressState state(Clock::time_point now, bool finished) const;

  const size_t total_bytes_;
  const ProgressListener listener_;
  const std::chrono::milliseconds interval_;
  const Clock::time_point start_;
  std::atomic<size_t> done_bytes_{0};
  std::mutex mutex_;
  Clock::time_point last_report_;
};

// A bar that redraws itself where `stream` is a terminal; otherwise one line every two seconds and
// one at the end.
ProgressListener terminal_progress(std::string label, std::FILE* stream);

// "12.3 MB": decimal units.
std::string format_bytes(double num_bytes);

}  // namespace beryl::base
