#include "tests/coordinator/scheduler/scheduler_probe.h"

#include <fmt/format.h>

#include <algorithm>

#include "coordinator/scheduler/group_state.h"

namespace beryl::scheduler {

bool SchedulerProbe::state_is_empty(Scheduler& scheduler) {
  const GroupState& group = state(scheduler);
  return group.requests.empty() && group.in_flight.empty() && group.deadlines.empty();
}

namespace sim {
namespace {

// `num_pins`: out, what its requests have pinned.
std::string check_rank(const GroupFacts& facts, const RankState& rank, uint64_t& num_pins) {
  size_t num_pages = rank.page_pool().num_retiring();
  uint64_t prefill_tokens = 0;
  num_pins = 0;
  for (const RequestState* request : rank.running()) {
    const Placement& placement = request->placement;
    num_pages += (placement.global_blocks.size() + facts.global_blocks_per_page - 1) /
                 facts.global_blocks_per_page;
    num_pages += placement.sliding_blocks.size();
    num_pins += placement.pinned_end - placement.next_span;
    if (placement.is_prefilling()) prefill_tokens += placement.prefill_end - placement.num_planned;
    if (request->phase != Phase::kRunning) return "accounting: a running request is not running";
  }
  if (num_pages != rank.page_pool().num_taken()) {
    return fmt::format("accounting: {} pages held, {} taken", num_pages,
                       rank.page_pool().num_taken());
  }
  if (prefill_tokens != rank.prefill_tokens_left()) return "accounting: prefill tokens of a rank";
  return {};
}

}  // namespace

std::string check_accounting(Scheduler& scheduler) {
  const GroupState& state = SchedulerProbe::state(scheduler);
  size_t num_running = 0;
  for (uint32_t rank = 0; rank < state.ranks.size(); ++rank) {
    uint64_t num_pins = 0;
    std::string error = check_rank(*state.facts, state.ranks[rank], num_pins);
    if (!error.empty()) return error;
    if (num_pins != state.features.num_pins(rank)) {
      return fmt::format("accounting: {} features pinned, {} needed", state.features.num_pins(rank),
                         num_pins);
    }
    num_running += state.ranks[rank].running().size();
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
      state.ranks[0].page_pool().num_free() > 0) {
    state.ranks[0].page_pool().take();
    leaked_in_epoch_ = state.epoch;
  }
  if (fault_ == PlantedFault::kCutSpan) cut_span(state);
  if (state.waiting.empty()) return;
  if (fault_ == PlantedFault::kStarve) starve_head(state);
  if (fault_ == PlantedFault::kStartOver || fault_ == PlantedFault::kRepeatToken) {
    spoil_replay(state);
  }
}

void FaultPlanter::cut_span(GroupState& state) {
  for (const RankState& rank : state.ranks) {
    for (RequestState* request : rank.running()) {
      Placement& placement = request->placement;
      if (placement.next_span == request->spec.pictures.size()) continue;
      // Its features are there and stay: nothing else is wrong.
      const PictureSpan& span = request->spec.pictures[placement.next_span];
      if (span.start != placement.num_planned) continue;
      if (!state.features.keeps(placement.rank, span.key)) continue;
      state.features.use(placement.rank, span.key, state.last_planned + 1);
      if (placement.has_pins()) state.features.unpin(placement.rank, span.key);
      ++placement.next_span;
      placement.pinned_end = std::max(placement.pinned_end, placement.next_span);
    }
  }
}

void FaultPlanter::spoil(Scheduler& scheduler, StepPlan& plan) const {
  if (fault_ == PlantedFault::kSkipJob && !plan.feature_jobs.empty()) plan.feature_jobs.pop_back();
  if (fault_ != PlantedFault::kDropEarly) return;
  const GroupState& state = SchedulerProbe::state(scheduler);
  for (RankPlan& rank : plan.ranks) {
    for (const PlannedRow& row : rank.rows) {
      for (const PictureSpan& span : state.requests.at(row.request)->spec.pictures) {
        if (span.start < row.start || span.end() > row.start + row.count) continue;
        const bool is_new = std::any_of(plan.feature_jobs.begin(), plan.feature_jobs.end(),
                                        [&](const FeatureJob& job) { return job.key == span.key; });
        if (is_new) continue;
        rank.feature_drops.push_back(span.key);
        return;
      }
    }
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
