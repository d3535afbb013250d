// When work on media has to end: at a deadline, or when nobody waits for it any more.
#pragma once

#include <atomic>
#include <chrono>

#include "parallel/base/expected.h"

namespace beryl::media {

struct StopCondition {
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  const std::atomic<bool>* cancelled = nullptr;  // may be null

  bool is_cancelled() const { return cancelled != nullptr && cancelled->load(); }
  bool is_over() const { return is_cancelled() || std::chrono::steady_clock::now() >= deadline; }
};

// kCancelled or kDeadlineExceeded where `stop` is over.
base::Status check_time(const StopCondition& stop);

}  // namespace beryl::media
