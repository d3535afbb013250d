#include "deploy/launcher/group_supervisor.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::launcher {

GroupAction GroupSupervisor::tick(TimePoint now) {
  if (state_ == GroupState::kDue && now >= due_) {
    state_ = GroupState::kStarting;
    started_ = now;
    ready_since_.reset();
    reason_.clear();
    return GroupAction::kStart;
  }
  if (state_ == GroupState::kStarting && now - started_ >= policy_.start_deadline) {
    reason_ = fmt::format("not ready after {} s", policy_.start_deadline.count() / 1000);
    state_ = GroupState::kDying;
    return GroupAction::kKill;
  }
  return GroupAction::kNone;
}

void GroupSupervisor::on_ready(uint64_t epoch, TimePoint now) {
  if (state_ != GroupState::kStarting || epoch <= epoch_) return;
  state_ = GroupState::kReady;
  epoch_ = epoch;
  ready_since_ = now;
  num_failed_starts_ = 0;
}

GroupAction GroupSupervisor::on_lost(uint64_t epoch, const std::string& reason) {
  const bool is_present = (state_ == GroupState::kReady && epoch >= epoch_) ||
                          (state_ == GroupState::kStarting && epoch > epoch_);
  if (!is_present) return GroupAction::kNone;
  epoch_ = epoch;
  reason_ = reason;
  state_ = GroupState::kDying;
  return GroupAction::kKill;
}

GroupAction GroupSupervisor::on_exit(const std::string& reason, TimePoint now) {
  if (state_ == GroupState::kStopped || state_ == GroupState::kGivenUp) return GroupAction::kNone;
  if (state_ != GroupState::kDying) reason_ = reason;  // else the cause is known, and it is not us
  if (ready_since_) {
    if (now - *ready_since_ >= policy_.stable_after) num_failures_ = 0;
  } else {
    ++num_failed_starts_;
  }
  ++num_failures_;
  if (num_failed_starts_ >= policy_.max_failed_starts) {
    state_ = GroupState::kGivenUp;
    return GroupAction::kGaveUp;
  }
  state_ = GroupState::kDue;
  due_ = now + delay();
  return GroupAction::kNone;
}

std::chrono::milliseconds GroupSupervisor::delay() const {
  std::chrono::milliseconds delay = policy_.first_delay;
  for (uint32_t i = 1; i < num_failures_ && delay < policy_.max_delay; ++i) delay *= 2;
  return std::min(delay, policy_.max_delay);
}

std::optional<TimePoint> GroupSupervisor::wakeup() const {
  if (state_ == GroupState::kDue) return due_;
  if (state_ == GroupState::kStarting) return started_ + policy_.start_deadline;
  return std::nullopt;
}

}  // namespace beryl::launcher
