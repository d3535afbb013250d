#include "coordinator/scheduler/planner.h"

#include <algorithm>
#include <utility>

#include "coordinator/scheduler/chunking.h"
#include "coordinator/scheduler/vision_cost.h"
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
    : state_(state),
      facts_(*state.facts),
      step_(state.last_planned + 1),
      features_(state, step_, plan_) {}

std::optional<StepPlan> Planner::plan() {
  if (state_.num_running == 0 && state_.waiting.empty()) return std::nullopt;
  start_step();
  // Each rank is first in turn: encoding capacity is shared by all.
  for (uint32_t idx = 0; idx < facts_.num_ranks; ++idx) {
    plan_running(static_cast<uint32_t>((step_ + idx) % facts_.num_ranks));
  }
  admit_waiting();
  if (num_rows_ == 0) return std::nullopt;
  if (!wait_for_features_.empty()) features_.look_ahead(wait_for_features_);
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
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
    const uint32_t num_rows = decode_rows(state_.ranks[rank], num_decoding[rank]);
    decode_rows_left_.push_back(num_rows);
    prompt_rows_left_.push_back(prompt_limit(facts_, limit, num_rows));
    hard_rows_left_.push_back(facts_.max_num_batched_tokens - num_rows);
  }
  features_.start(is_decoding);
}

uint32_t Planner::decode_rows(RankState& rank, uint32_t num_decoding) {
  const std::vector<RequestState*>& running = rank.running();
  const auto oldest = std::find_if(running.begin(), running.end(), [](const RequestState* request) {
    return request->placement.is_prefilling();
  });
  const uint32_t num_needed = oldest == running.end() ? 0 : least_chunk_rows(**oldest);
  const uint32_t num_left = facts_.max_num_batched_tokens - num_needed;
  // Not in two steps in a row: decoding goes on even where one large span follows another.
  const bool make_way = num_decoding > num_left && !rank.made_way();
  rank.set_made_way(make_way);
  return make_way ? num_left : num_decoding;
}

void Planner::plan_running(uint32_t rank) {
  // Preemption takes requests from the end only, those without a row in this step.
  const std::vector<RequestState*>& running = state_.ranks[rank].running();
  plan_.ranks[rank].rows.reserve(running.size());
  in_flight_.rows[rank].reserve(running.size());
  for (size_t idx = 0; idx < running.size(); ++idx) {
    RequestState& request = *running[idx];
    const bool has_spans = request.placement.next_span < request.spec.pictures.size();
    if (has_spans) wait_for_features_.push_back(&request);
    const uint32_t num_wanted = rows_wanted(rank, request);
    if (num_wanted == 0 || (has_spans && is_held_up(rank, request))) continue;
    const uint32_t count = make_room(rank, request, num_wanted);
    if (count == 0) {
      is_stalled_[rank] = true;
      continue;
    }
    const uint32_t num_provided = features_.provide(request, count);
    if (num_provided > 0) add_row(rank, request, num_provided);
  }
}

uint32_t Planner::rows_wanted(uint32_t rank, const RequestState& request) const {
  const Placement& placement = request.placement;
  if (placement.is_prefilling()) {
    return chunk_rows(request, prompt_rows_left_[rank], hard_rows_left_[rank]);
  }
  if (decode_rows_left_[rank] == 0) return 0;
  const uint32_t num_tokens = request.num_tokens() + request.samples_in_flight;
  BERYL_ASSERT(placement.num_planned + 1 == num_tokens || num_tokens == request.max_num_tokens(),
               "request {}: {} positions planned of {} tokens", request.spec.id,
               placement.num_planned, num_tokens);
  return num_tokens < request.max_num_tokens() ? 1 : 0;
}

bool Planner::is_held_up(uint32_t rank, const RequestState& request) const {
  const Placement& placement = request.placement;
  const PictureSpan& next = request.spec.pictures[placement.next_span];
  return next.start == placement.num_planned && !placement.has_pins() &&
         !features_.can_provide(rank, next, /*take_pinned=*/true);
}

uint32_t Planner::make_room(uint32_t rank, RequestState& request, uint32_t num_rows_wanted) {
  RankState& home = state_.ranks[rank];
  while (true) {
    const Room room =
        find_room(home, request, num_rows_wanted, /*may_take_blocks=*/!is_stalled_[rank]);
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
    offers_[rank].promised = promised_pages(facts_, state_.ranks[rank]);
    refresh_offer(rank);
  }
  // Strictly from the head: passing a request that finds no room would let small ones starve it.
  while (!state_.waiting.empty()) {
    RequestState& request = state_.waiting.front();
    if (request.rows_in_flight > 0) return;  // owns a token not yet reported
    const uint32_t num_pages = need_to_run(facts_, request).total();
    describe_pictures(request);
    const auto rank = choose_home_rank(offers_, num_pages);
    if (!rank) return;
    admit(request, *rank);
    offers_[*rank].promised += promised_pages(facts_, request);
    refresh_offer(*rank);
  }
}

void Planner::refresh_offer(uint32_t rank) {
  const RankState& home = state_.ranks[rank];
  RankOffer& offer = offers_[rank];
  offer.is_open = home.has_handle() && !is_stalled_[rank];
  offer.prompt_rows = prompt_rows_left_[rank];
  offer.pages = unpromised_pages(facts_, home, offer.promised);
  offer.tokens_queued = home.prefill_tokens_left();
  offer.num_running = static_cast<uint32_t>(home.running().size());
  offer.vision_tokens = features_.load(rank) / kPromptTokenFlop;
}

void Planner::describe_pictures(const RequestState& request) {
  const std::vector<PictureSpan>& pictures = request.spec.pictures;
  if (pictures.empty() && !offers_describe_pictures_) return;
  offers_describe_pictures_ = !pictures.empty();
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
    RankOffer& offer = offers_[rank];
    offer.feature_tokens_kept = 0;
    // It may wait for its first span once admitted, but a step without any row is no step.
    offer.can_start = num_rows_ > 0 || pictures.empty() || pictures[0].start > 0 ||
                      (pictures[0].num_tokens <= hard_rows_left_[rank] &&
                       features_.can_provide(rank, pictures[0], /*take_pinned=*/false));
  }
  for (const PictureSpan& span : pictures) {
    for (const uint32_t rank : state_.features.keepers(span.key)) {
      offers_[rank].feature_tokens_kept += span.num_tokens;
    }
  }
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
  admission.pictures = request.spec.pictures;

  if (!request.spec.pictures.empty()) wait_for_features_.push_back(&request);
  uint32_t count = 0;
  if (const uint32_t num_wanted = rows_wanted(rank, request); num_wanted > 0) {
    const Room room = find_room(home, request, num_wanted, true);
    BERYL_ASSERT(room.num_rows > 0, "request {} was admitted without room", request.spec.id);
    count = features_.provide(request, room.num_rows);
  }
  BERYL_ASSERT(count > 0 || num_rows_ > 0, "request {} is admitted to an empty step",
               request.spec.id);
  if (count > 0) add_row(rank, request, count);
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

  num_rows_ += count;

  home.extend(placement, owed.start + count, row);
  placement.num_planned += count;
  placement.last_step = step_;
  home.drop_behind_window(placement, state_.retirement);
  if (owed.prefill) {
    home.count_planned_prefill(count);
    // A span goes whole even where target_itl_us leaves less.
    prompt_rows_left_[rank] -= std::min(prompt_rows_left_[rank], count);
    hard_rows_left_[rank] -= count;
    const uint32_t num_spans = placement.next_span;
    state_.pass_spans(request);
    has_span_rows_ |= placement.next_span > num_spans;
  } else {
    --decode_rows_left_[rank];
  }
  ++request.rows_in_flight;
  request.samples_in_flight += owed.sample ? 1 : 0;
}

StepPlan Planner::finish_step() {
  // Features enter in exact mode only: neither jobs nor rows of a span fit a replayed graph.
  bool is_padded = plan_.feature_jobs.empty() && !has_span_rows_;
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
  in_flight_.has_feature_jobs = !plan_.feature_jobs.empty();
  state_.in_flight.push_back(std::move(in_flight_));
  state_.last_planned = step_;
  return std::move(plan_);
}

}  // namespace beryl::scheduler
