// When a group's job is started, killed and started again. Pure: events and the time go in, what to
// do comes out; the launcher does it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace beryl::launcher {

using TimePoint = std::chrono::steady_clock::time_point;

struct RestartPolicy {
  // Delay before the first restart; doubles with each further failure.
  std::chrono::milliseconds first_delay{100};
  std::chrono::milliseconds max_delay{30'000};
  // A group that was ready for so long has forgiven its earlier failures.
  std::chrono::milliseconds stable_after{60'000};
  // Starts in a row that never became ready, after which the group is given up.
  uint32_t max_failed_starts = 5;
  // From start to ready: loading weights from a slow disk takes minutes.
  std::chrono::milliseconds start_deadline{1'800'000};
};

enum class GroupState { kDue, kStarting, kReady, kDying, kGivenUp, kStopped };

enum class GroupAction {
  kNone,
  kStart,   // start a new job
  kKill,    // kill the whole job now; its end is reported with on_exit
  kGaveUp,  // this group will not be started again; say so
};

class GroupSupervisor {
 public:
  GroupSupervisor(RestartPolicy policy, TimePoint now) : policy_(policy), due_(now) {}

  // Time passed.
  GroupAction tick(TimePoint now);
  // The coordinator says that all ranks of the group have joined, or that the group is lost. Stale
  // news (of an epoch before the present job's) changes nothing.
  void on_ready(uint64_t epoch, TimePoint now);
  GroupAction on_lost(uint64_t epoch, const std::string& reason);
  // The job's process ended, or could not be started. The caller has killed what was left of it.
  GroupAction on_exit(const std::string& reason, TimePoint now);
  // No more starts, and no kill on the way: the server is going down.
  void stop() { state_ = GroupState::kStopped; }

  GroupState state() const { return state_; }
  uint64_t epoch() const { return epoch_; }
  uint32_t num_failures() const { return num_failures_; }
  uint32_t num_failed_starts() const { return num_failed_starts_; }
  const std::string& last_reason() const { return reason_; }
  std::chrono::milliseconds delay() const;
  // When tick() has something to do next.
  std::optional<TimePoint> wakeup() const;

 private:
  RestartPolicy policy_;
  GroupState state_ = GroupState::kDue;
  TimePoint due_;
  TimePoint started_;
  std::optional<TimePoint> ready_since_;  // of the present job
  uint64_t epoch_ = 0;                    // newest that was ready
  uint32_t num_failures_ = 0;             // since the group was last stable
  uint32_t num_failed_starts_ = 0;        // in a row
  std::string reason_;                    // why the present job ends, or the last one ended
};

}  // namespace beryl::launcher
