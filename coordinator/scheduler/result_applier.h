// Takes a rank's result: first all of it is compared with what was planned, then it is applied, so
// that a broken rank changes nothing.
#pragma once

#include "coordinator/scheduler/group_state.h"
#include "coordinator/scheduler/step_plan.h"

namespace beryl::scheduler {

// False: it contradicts the plan. Ranks report their steps in order.
bool apply_result(GroupState& state, const RankResult& result);

}  // namespace beryl::scheduler
