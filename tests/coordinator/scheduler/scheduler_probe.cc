#include "tests/coordinator/scheduler/scheduler_probe.h"

#include <fmt/format.h>

#include "coordinator/scheduler/group_state.h"

namespace beryl::scheduler {

bool SchedulerProbe::state_is_empty(Scheduler& scheduler) {
  const GroupState& group = state(scheduler);
  return group.requests.empty() && group.in_flight.empty() && group.deadlines.empty();
}

namespace sim {
namespace {

std::string check_rank(const RankState& rank) {
  size_t num_global = rank.global_pool().num_retiring();
  size_t num_sliding = rank.sliding_pool().num_retiring();
  uint64_t prefill_tokens = 0;
  for (const RequestState* request : rank.running()) {
    const Placement& placement = request->placement;
    num_global += placement.global_blocks.size();
    num_sliding += placement.sliding_blocks.size();
    if (placement.is_prefilling()) prefill_tokens += placement.prefill_end - placement.num_planned;
    if (request->phase != Phase::kRunning) return "accounting: a running request is not running";
  }
  if (num_global != rank.global_pool().num_taken()) {
    return fmt::format("accounting: {} global blocks held, {} taken", num_global,
                       rank.global_pool().num_taken());
  }
  if (num_sliding != rank.sliding_pool().num_taken()) {
    return fmt::format("accounting: {} sliding blocks held, {} taken", num_sliding,
                       rank.sliding_pool().num_taken());
  }
  if (prefill_tokens != rank.prefill_tokens_left()) return "accounting: prefill tokens of a rank";
  return {};
}

}  // namespace

std::string check_accounting(Scheduler& scheduler) {
  const GroupState& state = SchedulerProbe::state(scheduler);
  size_t num_running = 0;
  for (const RankState& rank : state.ranks) {
    std::string error = check_rank(rank);
    if (!error.empty()) return error;
    num_running += rank.running().size();
  }
  if (num_running != state.num_running) return "accounting: running requests";
  size_t num_rows = 0;
  for (const StepInFlight& step : state.in_flight) {
    for (const auto& rows : step.rows) num_rows += rows.size();
  }
  const size_t num_alive = num_running + state.waiting.size();
  if (state.requests.size() < num_alive || state.requests.size() > num_alive + num_rows) {
    return fmt::format("accounting: {} requests kept, {} alive", state.requests.size(), num_alive);
  }
  return {};
}

void FaultPlanter::plant(Scheduler& scheduler) {
  if (fault_ == PlantedFault::kNone) return;
  GroupState& state = SchedulerProbe::state(scheduler);
  if (fault_ == PlantedFault::kFreeEarly && !state.in_flight.empty()) {
    state.retirement.complete(state.in_flight.front().step);
  }
  if (fault_ == PlantedFault::kLeakBlock && state.has_epoch && leaked_in_epoch_ != state.epoch &&
      state.ranks[0].global_pool().num_free() > 0) {
    state.ranks[0].global_pool().take();
    leaked_in_epoch_ = state.epoch;
  }
  if (state.waiting.empty()) return;
  if (fault_ == PlantedFault::kStarve) starve_head(state);
  if (fault_ == PlantedFault::kStartOver || fault_ == PlantedFault::kRepeatToken) {
    spoil_replay(state);
  }
}

void FaultPlanter::spoil_replay(GroupState& state) {
  RequestState& request = state.waiting.front();
  if (request.num_generated() == 0 || request.rows_in_flight > 0) return;
  state.waiting.erase(request);
  if (fault_ == PlantedFault::kStartOver) {
    request.token_ids.resize(request.num_prompt_tokens);
  } else if (request.num_tokens() + 1 < request.max_num_tokens() &&
             repeated_.insert(request.spec.id).second) {
    request.token_ids.push_back(request.token_ids.back());
  }
  state.waiting.insert(request);
}

void FaultPlanter::starve_head(GroupState& state) {
  constexpr int64_t kFarBack = 1'000'000'000;
  RequestState& request = state.waiting.front();
  const bool is_victim = request.spec.id % 4 == 0;
  if (!is_victim || request.was_scheduled || request.order.virtual_arrival >= kFarBack) return;
  state.waiting.erase(request);
  request.order.virtual_arrival += kFarBack;
  state.waiting.insert(request);
}

}  // namespace sim
}  // namespace beryl::scheduler
