// SIGTERM and SIGINT as a call on a thread of its own.
#pragma once

#include <csignal>
#include <functional>
#include <string>
#include <thread>

namespace beryl::service {

// Make it before any other thread, so that all of them inherit the blocked signals. A second
// signal, or no end within kStopGrace after the first, ends the process at once.
class StopSignals {
 public:
  explicit StopSignals(std::function<void(const std::string& reason)> on_stop);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  void wait_loop();

  std::function<void(const std::string&)> on_stop_;
  sigset_t signals_;
  std::thread thread_;
};

// The process gets SIGTERM when the one that started it ends.
void end_with_parent();

}  // namespace beryl::service
