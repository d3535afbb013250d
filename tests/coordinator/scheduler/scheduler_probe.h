// Looks inside a Scheduler: sums that must hold at every step, and faults planted to show that the
// simulator would notice them.
#pragma once

#include <string>
#include <unordered_set>

#include "coordinator/scheduler/scheduler.h"
#include "tests/coordinator/scheduler/scenario.h"

namespace beryl::scheduler {

struct SchedulerProbe {
  static GroupState& state(Scheduler& scheduler) { return *scheduler.state_; }
  // No request and no step is kept.
  static bool state_is_empty(Scheduler& scheduler);
};

namespace sim {

// Blocks, handles and counters against what requests hold; an empty string if they add up.
std::string check_accounting(Scheduler& scheduler);

class FaultPlanter {
 public:
  explicit FaultPlanter(PlantedFault fault) : fault_(fault) {}
  // Called before each plan.
  void plant(Scheduler& scheduler);
  // Called with each plan.
  void spoil(Scheduler& scheduler, StepPlan& plan) const;

 private:
  void spoil_replay(GroupState& state);
  void starve_head(GroupState& state);
  void cut_span(GroupState& state);

  PlantedFault fault_;
  uint64_t leaked_in_epoch_ = 0;
  std::unordered_set<RequestId> repeated_;
};

}  // namespace sim
}  // namespace beryl::scheduler
