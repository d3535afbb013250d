// Between the scheduler's types and the wire's.
#pragma once

#include <cstdint>
#include <string>

#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/step_plan.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::cluster {

// What `rank` is told of a step.
wire::StepPlan encode_plan(const scheduler::StepPlan& plan, uint32_t rank);

// A result that passed wire::validate.
scheduler::RankResult decode_result(const wire::StepResult& result, uint32_t rank);

scheduler::GroupFacts to_facts(const wire::Registration& registration);

}  // namespace beryl::cluster
