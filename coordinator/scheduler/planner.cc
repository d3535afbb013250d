#include "coordinator/scheduler/planner.h"

#include <algorithm>
#include <utility>

#include "coordinator/scheduler/chunking.h"
#include "parallel/base/assert.h"

namespace beryl::scheduler {

uint32_t bucket_of(uint32_t num_rows) {
  uint32_t power = 1;
  while (power < num_rows) {
    const uint32_t between = power + power / 2;
    if (power >= 16 && between >= num_rows) return between;
    power *= 2;
  }
  return power;
}

Planner::Planner(GroupState& state)
    : state_(state), facts_(*state.facts), step_(state.last_planned + 1) {}

std::optional<StepPlan> Planner::plan() {
  if (state_.num_running == 0 && state_.waiting.empty()) return std::nullopt;
  start_step();
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) plan_running(rank);
  admit_waiting();
  const bool has_rows = std::any_of(plan_.ranks.begin(), plan_.ranks.end(),
                                    [](const RankPlan& rank) { return rank.num_rows > 0; });
  if (!has_rows) return std::nullopt;
  return finish_step();
}

void Planner::start_step() {
  plan_.epoch = state_.epoch;
  plan_.step = step_;
  plan_.ranks.resize(facts_.num_ranks);
  in_flight_.step = step_;
  in_flight_.rows.resize(facts_.num_ranks);
  is_stalled_.assign(facts_.num_ranks, false);

  std::vector<uint32_t> num_decoding(facts_.num_ranks, 0);
  bool is_decoding = false;
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
    for (const RequestState* request : state_.ranks[rank].running()) {
      num_decoding[rank] += request->placement.is_prefilling() ? 0 : 1;
    }
    is_decoding |= num_decoding[rank] > 0;
  }
  const uint32_t limit = row_limit(state_.config, facts_, state_.cost, is_decoding);
  for (uint32_t count : num_decoding) {
    prompt_rows_left_.push_back(prompt_limit(facts_, limit, count));
  }
}

void Planner::plan_running(uint32_t rank) {
  // Preemption takes requests from the end only, those without a row in this step.
  const std::vector<RequestState*>& running = state_.ranks[rank].running();
  plan_.ranks[rank].rows.reserve(running.size());
  in_flight_.rows[rank].reserve(running.size());
  for (size_t idx = 0; idx < running.size(); ++idx) {
    RequestState& request = *running[idx];
    const uint32_t num_wanted = rows_wanted(rank, request);
    if (num_wanted == 0) continue;
    const uint32_t count = make_room(rank, request, num_wanted);
    if (count > 0) {
      add_row(rank, request, count);
    } else {
      is_stalled_[rank] = true;
    }
  }
}

uint32_t Planner::rows_wanted(uint32_t rank, const RequestState& request) const {
  const Placement& placement = request.placement;
  if (placement.is_prefilling()) {
    return std::min(placement.prefill_end - placement.num_planned, prompt_rows_left_[rank]);
  }
  const uint32_t num_tokens = request.num_tokens() + request.samples_in_flight;
  BERYL_ASSERT(placement.num_planned + 1 == num_tokens || num_tokens == request.max_num_tokens(),
               "request {}: {} positions planned of {} tokens", request.spec.id,
               placement.num_planned, num_tokens);
  return num_tokens < request.max_num_tokens() ? 1 : 0;
}

uint32_t Planner::make_room(uint32_t rank, RequestState& request, uint32_t num_rows_wanted) {
  RankState& home = state_.ranks[rank];
  while (true) {
    const Room room =
        find_room(home, request.placement, num_rows_wanted, /*may_take_blocks=*/!is_stalled_[rank]);
    if (room.verdict != RoomVerdict::kPreempt) return room.num_rows;
    RequestState& newest = *home.running().back();
    if (&newest == &request) return 0;
    state_.preempt(newest);
  }
}

void Planner::admit_waiting() {
  if (state_.waiting.empty()) return;
  offers_.resize(facts_.num_ranks);
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
    offers_[rank].promised = promised_blocks(facts_, state_.ranks[rank]);
    refresh_offer(rank);
  }
  // Strictly from the head: passing a request that finds no room would let small ones starve it.
  while (!state_.waiting.empty()) {
    RequestState& request = state_.waiting.front();
    if (request.rows_in_flight > 0) return;  // owns a token not yet reported
    const BlockNeed need = need_to_run(facts_, request);
    const auto rank = choose_home_rank(offers_, need);
    if (!rank) return;
    admit(request, *rank);
    add_promise(facts_, request, offers_[*rank].promised);
    refresh_offer(*rank);
  }
}

void Planner::refresh_offer(uint32_t rank) {
  const RankState& home = state_.ranks[rank];
  RankOffer& offer = offers_[rank];
  offer.is_open = home.has_handle() && !is_stalled_[rank];
  offer.prompt_rows = prompt_rows_left_[rank];
  offer.blocks = unpromised_blocks(facts_, home, offer.promised);
  offer.tokens_queued = home.prefill_tokens_left();
  offer.num_running = static_cast<uint32_t>(home.running().size());
}

void Planner::admit(RequestState& request, uint32_t rank) {
  RankState& home = state_.ranks[rank];
  state_.start(request, home);
  PlannedAdmission& admission = plan_.ranks[rank].admissions.emplace_back();
  admission.handle = request.placement.handle;
  admission.request = request.spec.id;
  admission.sampling = request.spec.sampling;
  admission.stop_token_ids = request.spec.stop_token_ids;
  admission.token_ids = request.token_ids;
  admission.num_prompt_tokens = request.num_prompt_tokens;

  const Room room = find_room(home, request.placement, rows_wanted(rank, request), true);
  BERYL_ASSERT(room.num_rows > 0, "request {} was admitted without room", request.spec.id);
  add_row(rank, request, room.num_rows);
}

void Planner::add_row(uint32_t rank, RequestState& request, uint32_t count) {
  RankState& home = state_.ranks[rank];
  Placement& placement = request.placement;
  RowInFlight& owed = in_flight_.rows[rank].emplace_back();
  owed.request = &request;
  owed.handle = placement.handle;
  owed.start = placement.num_planned;
  owed.count = count;
  owed.prefill = placement.is_prefilling();
  owed.sample = !owed.prefill || placement.num_planned + count == placement.prefill_end;

  RankPlan& out = plan_.ranks[rank];
  PlannedRow& row = out.rows.emplace_back();
  row.handle = placement.handle;
  row.request = request.spec.id;
  row.start = owed.start;
  row.count = count;
  row.sample = owed.sample;
  out.num_rows += count;

  home.extend(placement, owed.start + count, row);
  placement.num_planned += count;
  placement.last_step = step_;
  home.drop_behind_window(placement, state_.retirement);
  if (owed.prefill) {
    home.count_planned_prefill(count);
    prompt_rows_left_[rank] -= count;
  }
  ++request.rows_in_flight;
  request.samples_in_flight += owed.sample ? 1 : 0;
}

StepPlan Planner::finish_step() {
  bool is_padded = true;
  uint32_t max_rows = 0;
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
    RankPlan& out = plan_.ranks[rank];
    out.releases = state_.ranks[rank].take_releases();
    BERYL_ASSERT(out.num_rows <= facts_.max_num_batched_tokens, "{} rows on rank {}", out.num_rows,
                 rank);
    max_rows = std::max(max_rows, out.num_rows);
    for (const PlannedRow& row : out.rows) is_padded &= row.count == 1 && row.sample;
  }
  plan_.mode = is_padded ? StepMode::kPadded : StepMode::kExact;
  plan_.bucket = is_padded ? std::min(bucket_of(max_rows), facts_.max_num_batched_tokens) : 0;
  in_flight_.max_rows = max_rows;
  state_.in_flight.push_back(std::move(in_flight_));
  state_.last_planned = step_;
  return std::move(plan_);
}

}  // namespace beryl::scheduler
