#include "coordinator/scheduler/group_state.h"

#include <fmt/format.h>

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::scheduler {
namespace {

// A request that gains tokens between losses is hardly their cause; still, there is an end.
constexpr uint32_t kMaxLossesPerAttempt = 8;

}  // namespace

void GroupState::start(RequestState& request, RankState& rank) {
  BERYL_ASSERT(request.rows_in_flight == 0, "request {} owns a token not yet reported",
               request.spec.id);
  waiting.erase(request);
  rank.place(request);
  ++num_running;
  if (request.was_scheduled) return;
  request.was_scheduled = true;
  SchedulerEvent event;
  event.request = request.spec.id;
  event.first_scheduled = true;
  events.push_back(std::move(event));
}

void GroupState::preempt(RequestState& request) {
  BERYL_ASSERT(request.phase == Phase::kRunning, "request {} does not run", request.spec.id);
  unpin_features(request);
  ranks[request.placement.rank].unplace(request, retirement);
  --num_running;
  ++num_preemptions;
  waiting.insert(request);
}

void GroupState::unpin_features(RequestState& request) {
  Placement& placement = request.placement;
  while (placement.has_pins()) {
    features.unpin(placement.rank, request.spec.pictures[--placement.pinned_end].key);
  }
}

void GroupState::pass_spans(RequestState& request) {
  Placement& placement = request.placement;
  const std::vector<PictureSpan>& pictures = request.spec.pictures;
  while (placement.next_span < pictures.size() &&
         pictures[placement.next_span].start < placement.num_planned) {
    if (placement.has_pins()) features.unpin(placement.rank, pictures[placement.next_span].key);
    ++placement.next_span;
  }
  placement.pinned_end = std::max(placement.pinned_end, placement.next_span);
}

void GroupState::finish(RequestState& request, SchedulerEvent event) {
  BERYL_ASSERT(request.phase != Phase::kFinished, "request {} ends twice", request.spec.id);
  if (request.phase == Phase::kRunning) {
    unpin_features(request);
    ranks[request.placement.rank].unplace(request, retirement);
    --num_running;
  } else {
    waiting.erase(request);
  }
  if (request.spec.deadline_us != 0) {
    deadlines.erase({request.spec.deadline_us, request.spec.id});
  }
  request.phase = Phase::kFinished;
  event.request = request.spec.id;
  event.finished = true;
  events.push_back(std::move(event));
}

void GroupState::finish(RequestState& request, FinishReason reason, std::string error) {
  SchedulerEvent event;
  event.reason = reason;
  event.error = std::move(error);
  finish(request, std::move(event));
}

void GroupState::drop_if_settled(RequestState& request) {
  if (request.phase == Phase::kFinished && request.rows_in_flight == 0) {
    requests.erase(request.spec.id);
  }
}

void GroupState::count_loss(RequestState& request) {
  if (request.num_tokens() > request.tokens_at_last_loss) request.losses_without_progress = 0;
  request.tokens_at_last_loss = request.num_tokens();
  ++request.losses_without_progress;
  ++request.losses;
  if (request.losses_without_progress < config.max_attempts &&
      request.losses < config.max_attempts * kMaxLossesPerAttempt) {
    return;
  }
  finish(request, FinishReason::kError,
         fmt::format("the group was lost {} times while this request was running", request.losses));
}

void GroupState::lose_epoch() {
  has_epoch = false;
  std::vector<RequestState*> affected;
  for (auto& [id, request] : requests) {
    if (request->phase == Phase::kRunning || request->rows_in_flight > 0) {
      affected.push_back(request.get());
    }
  }
  for (RequestState* request : affected) {
    request->rows_in_flight = 0;
    request->samples_in_flight = 0;
    if (request->phase == Phase::kRunning) {
      request->placement = Placement{};
      --num_running;
      waiting.insert(*request);
    }
    if (request->phase == Phase::kWaiting) count_loss(*request);
    drop_if_settled(*request);
  }
  BERYL_ASSERT(num_running == 0, "{} requests run without an epoch", num_running);
  in_flight.clear();
  retirement.reset();
  features = {};
  encoded_flop.clear();
  ranks.clear();
}

}  // namespace beryl::scheduler
