// Plans on their way from the reader thread to the thread that executes them.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "parallel/wire/cluster.pb.h"

namespace beryl::service {

class PlanQueue {
 public:
  // The coordinator keeps two steps in flight; more than this is a broken coordinator.
  static constexpr size_t kMaxPlans = 8;

  // False when full.
  bool push(wire::StepPlan plan) {
    const std::lock_guard lock(mutex_);
    if (plans_.size() >= kMaxPlans) return false;
    plans_.push_back(std::move(plan));
    changed_.notify_one();
    return true;
  }

  // Waits for a plan; nothing once the queue is closed (plans left in it are dropped). Bounded by
  // the session: it closes the queue when its connection ends or is silent too long.
  std::optional<wire::StepPlan> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !plans_.empty(); });
    if (closed_) return std::nullopt;
    wire::StepPlan plan = std::move(plans_.front());
    plans_.pop_front();
    return plan;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<wire::StepPlan> plans_;
  bool closed_ = false;
};

}  // namespace beryl::service
