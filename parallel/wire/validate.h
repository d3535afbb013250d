// Checks of every message that arrives, by whoever receives it: counts, ranges and agreement of
// fields, so that nothing behind them can be led out of its arrays. What depends on the state of a
// request is checked where that state is (worker/engine, coordinator/scheduler).
#pragma once

#include <string>
#include <string_view>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::wire {

// What a group agreed on, known to both sides.
struct GroupLimits {
  uint64_t epoch = 0;
  uint32_t num_ranks = 1;
  ModelFacts model;
  CacheFacts cache;
};

base::Status validate(const Registration& registration);
base::Status validate(const Welcome& welcome);
// Of the coordinator, for rank `rank`.
base::Status validate(const StepPlan& plan, const GroupLimits& limits, uint32_t rank);
// Of a worker. A result that carries only `error` is valid.
base::Status validate(const StepResult& result, const GroupLimits& limits);

// A reason or name as it may be logged or sent: control characters and bytes outside ASCII become
// '?', at most kMaxReasonBytes.
std::string clean_reason(std::string_view text);

}  // namespace beryl::wire
