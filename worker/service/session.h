// Session: one rank's conversation with the coordinator, from dialing to the end of the epoch.
// Receiving and heartbeats have their own threads, so that a long step neither hides a lost
// coordinator nor looks like a lost worker.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "parallel/base/expected.h"
#include "parallel/base/log.h"
#include "parallel/wire/connection.h"
#include "parallel/wire/secret.h"
#include "parallel/wire/validate.h"
#include "worker/service/plan_queue.h"

namespace beryl::service {

struct SessionOptions {
  wire::Endpoint coordinator;
  std::chrono::milliseconds connect_deadline{60'000};
};

// Why the conversation is over.
struct SessionEnd {
  bool is_clean = false;  // a goodbye from either side
  std::string reason;
  bool device_failed = false;  // nothing on the device can be trusted any more
};

class Session {
 public:
  // Dials until the deadline, then proves the secret. `secret`, `log` must outlive the session.
  // A refusal (wrong secret, other version, taken rank) is an error at once.
  static base::Expected<std::unique_ptr<Session>> open(const SessionOptions& options,
                                                       const wire::Secret& secret,
                                                       const wire::Registration& registration,
                                                       base::Logger& log);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Waits while other ranks of the group are missing, with heartbeats in both directions. Any
  // thread may end the wait with end().
  base::Expected<wire::Welcome> wait_for_welcome();

  // Called from any thread, each at most once.
  struct Hooks {
    std::function<void()> on_end;    // the session is over
    std::function<void()> on_stuck;  // kStuckGrace later nobody has called leave()
  };
  static constexpr std::chrono::seconds kStuckGrace{10};
  // Starts the threads.
  void start(Hooks hooks);
  // The executing thread is back from its last step.
  void leave();

  uint64_t epoch() const { return welcome_.epoch(); }
  std::chrono::milliseconds step_deadline() const {
    return std::chrono::milliseconds(welcome_.step_deadline_ms());
  }

  // Blocks for the next plan; nothing when the session is over.
  std::optional<wire::StepPlan> next_plan() { return plans_.pop(); }
  base::Status send_result(const wire::StepResult& result);

  // Ends the session from this side, telling the coordinator why. The first reason stands.
  void end(const SessionEnd& end);
  SessionEnd ended() const;

 private:
  Session(wire::Connection connection, base::Logger& log);
  void send_heartbeat(std::chrono::milliseconds deadline);
  void close_with(SessionEnd end);
  void read_loop();
  void handle(wire::Frame frame);
  void heartbeat_loop();
  bool is_over() const { return over_.load(std::memory_order_acquire); }

  wire::Connection connection_;
  base::Logger& log_;
  wire::Welcome welcome_;
  PlanQueue plans_;
  std::atomic<uint64_t> last_step_{0};
  std::atomic<bool> over_{false};
  mutable std::mutex mutex_;
  std::condition_variable ended_changed_;
  SessionEnd end_;
  bool left_ = false;
  Hooks hooks_;
  std::thread reader_;
  std::thread heartbeat_;
};

}  // namespace beryl::service
