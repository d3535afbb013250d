// How a polling loop gives the core away: yields at first, because answers between running ranks
// come within microseconds, and sleeps once that has not helped.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace beryl::comm {

class Backoff {
 public:
  explicit Backoff(std::chrono::steady_clock::time_point start) : start_(start) {}

  void pause(std::chrono::steady_clock::time_point now) {
    if (now - start_ < kYieldFor) {
      sched_yield();
      return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(sleep_ * 2, kLongestSleep);
  }

 private:
  static constexpr std::chrono::microseconds kYieldFor{2'000};
  static constexpr std::chrono::microseconds kLongestSleep{200};

  const std::chrono::steady_clock::time_point start_;
  std::chrono::microseconds sleep_{10};
};

}  // namespace beryl::comm
