#include "coordinator/scheduler/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "coordinator/scheduler/capacity.h"
#include "coordinator/scheduler/group_state.h"
#include "coordinator/scheduler/planner.h"
#include "coordinator/scheduler/result_applier.h"
#include "parallel/base/assert.h"

namespace beryl::scheduler {
namespace {

// Priorities beyond this are as this: the virtual arrival stays far from overflow.
constexpr int32_t kMaxPriority = 1 << 20;

// Beyond any real group: what a broken registration says must not cost the memory it names.
constexpr uint32_t kMaxRanks = 4'096;
constexpr uint32_t kMaxBlocks = 1 << 26;
constexpr uint32_t kMaxSeqs = 1 << 16;
constexpr uint32_t kMaxFeatureTokens = 1 << 26;
constexpr uint32_t kMaxPicturePatches = 1 << 20;

base::Status check_facts(const GroupFacts& facts) {
  if (facts.num_ranks == 0 || facts.max_model_len == 0 || facts.sliding_window == 0 ||
      facts.block_size == 0 || facts.num_pages == 0 || facts.global_blocks_per_page == 0 ||
      facts.max_num_seqs == 0 || facts.max_num_batched_tokens == 0) {
    return base::invalid_argument("group", "a size of the registered group is zero");
  }
  if (facts.num_ranks > kMaxRanks || facts.num_pages > kMaxBlocks ||
      facts.global_blocks_per_page > kMaxBlocks / facts.num_pages ||
      facts.max_num_seqs > kMaxSeqs || facts.num_feature_tokens > kMaxFeatureTokens ||
      facts.max_picture_patches > kMaxPicturePatches) {
    return base::invalid_argument("group", "a size of the registered group is beyond all measure");
  }
  return base::Status::ok();
}

base::Status check_request(const NewRequest& request) {
  if (request.prompt_token_ids.empty()) return base::invalid_argument("prompt", "it is empty");
  if (request.max_tokens == 0) return base::invalid_argument("max_tokens", "it must be 1 or more");
  return base::Status::ok();
}

base::Error overloaded(std::string message) {
  return {base::ErrorCode::kQueueFull, std::move(message), {}, "server_overloaded"};
}

base::Status check_queue(const GroupState& state, const NewRequest& request) {
  if (state.waiting.size() >= state.config.max_queued_requests) {
    return overloaded(
        fmt::format("{} requests wait already, try again later", state.waiting.size()));
  }
  const uint64_t num_tokens = state.waiting.num_tokens() + request.prompt_token_ids.size();
  if (num_tokens > state.config.max_queued_tokens && !state.waiting.empty()) {
    return overloaded(
        fmt::format("{} prompt tokens wait already, try again later", state.waiting.num_tokens()));
  }
  return base::Status::ok();
}

void enqueue(GroupState& state, MovedRequest moved) {
  NewRequest& new_request = moved.spec;
  auto request = std::make_unique<RequestState>();
  request->token_ids = std::exchange(new_request.prompt_token_ids, {});
  request->num_prompt_tokens = request->num_tokens();
  request->token_ids.insert(request->token_ids.end(), moved.generated_token_ids.begin(),
                            moved.generated_token_ids.end());
  request->tokens_at_last_loss = request->num_tokens();
  for (const PictureSpan& span : new_request.pictures) {
    request->longest_span = std::max(request->longest_span, span.num_tokens);
  }
  request->next_prompt_logprob = moved.next_prompt_logprob;
  request->was_scheduled = moved.was_scheduled;
  request->losses_without_progress = moved.losses_without_progress;
  request->losses = moved.losses;
  request->order.arrival = state.num_arrivals++;
  request->order.virtual_arrival =
      static_cast<int64_t>(request->order.arrival) +
      ServiceOrder::kPriorityStep * std::clamp(new_request.priority, -kMaxPriority, kMaxPriority);
  request->spec = std::move(new_request);
  const RequestId id = request->spec.id;
  if (request->spec.deadline_us != 0) state.deadlines.emplace(request->spec.deadline_us, id);
  state.waiting.insert(*request);
  const bool inserted = state.requests.emplace(id, std::move(request)).second;
  BERYL_ASSERT(inserted, "request {} was added twice", id);
}

base::Status check_fits(const GroupFacts& facts, const NewRequest& request,
                        uint32_t num_prompt_tokens) {
  base::Status fits = check_fits_alone(facts, num_prompt_tokens, request.max_tokens);
  if (!fits) return fits;
  return check_pictures_fit(facts, request.pictures, num_prompt_tokens);
}

base::Status check_holds(const GroupState& state, const NewRequest& request) {
  if (!state.facts) {
    return base::Error{
        base::ErrorCode::kUnavailable, "no group of workers has registered yet", {}, {}};
  }
  if (base::Status valid = check_request(request); !valid) return valid;
  const auto num_prompt_tokens =
      static_cast<uint32_t>(std::min<size_t>(request.prompt_token_ids.size(), UINT32_MAX));
  return check_fits(*state.facts, request, num_prompt_tokens);
}

void fail_what_no_longer_fits(GroupState& state) {
  std::vector<std::pair<RequestState*, std::string>> failed;
  for (auto& [id, request] : state.requests) {
    const base::Status fits = check_fits(*state.facts, request->spec, request->num_prompt_tokens);
    if (!fits) failed.emplace_back(request.get(), fits.error().message);
  }
  for (auto& [request, message] : failed) {
    state.finish(*request, FinishReason::kError, "the group came back smaller: " + message);
    state.drop_if_settled(*request);
  }
}

void expire_deadlines(GroupState& state, int64_t now_us) {
  while (!state.deadlines.empty() && state.deadlines.begin()->first <= now_us) {
    RequestState& request = *state.requests.at(state.deadlines.begin()->second);
    state.finish(request, FinishReason::kDeadline);
    state.drop_if_settled(request);
  }
}

}  // namespace

Scheduler::Scheduler(const SchedulerConfig& config) : state_(std::make_unique<GroupState>(config)) {
  BERYL_ASSERT(config.max_steps_in_flight >= 1, "no step may be planned");
}

Scheduler::~Scheduler() = default;

base::Status Scheduler::start_epoch(uint64_t epoch, const GroupFacts& facts) {
  if (base::Status valid = check_facts(facts); !valid) return valid;
  if (epoch <= state_->epoch) {
    return base::invalid_argument("epoch", fmt::format("{} comes after {}", epoch, state_->epoch));
  }
  end_epoch();
  state_->epoch = epoch;
  state_->has_epoch = true;
  state_->facts = facts;
  state_->last_planned = 0;
  state_->last_result.assign(facts.num_ranks, 0);
  state_->ranks.reserve(facts.num_ranks);
  for (uint32_t rank = 0; rank < facts.num_ranks; ++rank) state_->ranks.emplace_back(rank, facts);
  state_->features = FeatureStore(facts.num_ranks, facts.num_feature_tokens);
  state_->encoded_flop.assign(facts.num_ranks, 0);
  fail_what_no_longer_fits(*state_);
  return base::Status::ok();
}

void Scheduler::end_epoch() {
  if (state_->has_epoch) state_->lose_epoch();
}

bool Scheduler::has_epoch() const {
  return state_->has_epoch;
}

base::Status Scheduler::add(NewRequest request) {
  if (base::Status holds = check_holds(*state_, request); !holds) return holds;
  if (base::Status room = check_queue(*state_, request); !room) return room;
  enqueue(*state_, MovedRequest{.spec = std::move(request), .generated_token_ids = {}});
  return base::Status::ok();
}

base::Status Scheduler::add_moved(MovedRequest moved) {
  if (base::Status holds = check_holds(*state_, moved.spec); !holds) return holds;
  enqueue(*state_, std::move(moved));
  return base::Status::ok();
}

std::vector<MovedRequest> Scheduler::take_requests() {
  BERYL_ASSERT(!state_->has_epoch, "requests are taken from epoch {}", state_->epoch);
  // In order of arrival, so that the other group serves them in that order.
  std::vector<RequestState*> requests;
  for (auto& [id, request] : state_->requests) requests.push_back(request.get());
  std::sort(requests.begin(), requests.end(),
            [](const auto* a, const auto* b) { return a->order.arrival < b->order.arrival; });
  std::vector<MovedRequest> moved;
  for (RequestState* request : requests) {
    state_->waiting.erase(*request);
    MovedRequest out;
    const auto prompt_end = request->token_ids.begin() + request->num_prompt_tokens;
    out.generated_token_ids.assign(prompt_end, request->token_ids.end());
    out.next_prompt_logprob = request->next_prompt_logprob;
    out.was_scheduled = request->was_scheduled;
    out.losses_without_progress = request->losses_without_progress;
    out.losses = request->losses;
    out.spec = std::move(request->spec);
    out.spec.prompt_token_ids.assign(request->token_ids.begin(), prompt_end);
    moved.push_back(std::move(out));
  }
  state_->deadlines.clear();
  state_->requests.clear();
  return moved;
}

void Scheduler::cancel(RequestId id) {
  const auto found = state_->requests.find(id);
  if (found == state_->requests.end() || found->second->phase == Phase::kFinished) return;
  RequestState& request = *found->second;
  state_->finish(request, FinishReason::kAborted);
  state_->drop_if_settled(request);
}

bool Scheduler::on_result(const RankResult& result) {
  return apply_result(*state_, result);
}

std::optional<StepPlan> Scheduler::plan(int64_t now_us) {
  expire_deadlines(*state_, now_us);
  if (!state_->has_epoch || state_->in_flight.size() >= state_->config.max_steps_in_flight) {
    return std::nullopt;
  }
  std::optional<StepPlan> plan = Planner(*state_).plan();
  // Decoding requests made way for a span that then found no blocks: they do not twice in a row.
  const bool made_way = std::any_of(state_->ranks.begin(), state_->ranks.end(),
                                    [](const RankState& rank) { return rank.made_way(); });
  if (!plan && made_way) plan = Planner(*state_).plan();
  return plan;
}

std::vector<SchedulerEvent> Scheduler::take_events() {
  return std::exchange(state_->events, {});
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats;
  stats.num_waiting = static_cast<uint32_t>(state_->waiting.size());
  stats.num_running = state_->num_running;
  stats.queued_tokens = state_->waiting.num_tokens();
  stats.num_preemptions = state_->num_preemptions;
  stats.tokens_generated = state_->tokens_generated;
  stats.prompt_tokens_computed = state_->prompt_tokens_computed;
  for (const RankState& rank : state_->ranks) {
    stats.pages_used += rank.page_pool().num_taken();
    stats.pages_total += rank.page_pool().num_total();
  }
  for (uint32_t rank = 0; rank < state_->ranks.size(); ++rank) {
    stats.feature_tokens_used += state_->features.num_kept(rank);
    stats.feature_tokens_total += state_->facts->num_feature_tokens;
  }
  stats.encoded_patches = state_->vision_counts.encoded_patches;
  stats.feature_hits = state_->vision_counts.hits;
  stats.feature_misses = state_->vision_counts.misses;
  stats.feature_moves = state_->vision_counts.moves;
  stats.steps_in_flight = static_cast<uint32_t>(state_->in_flight.size());
  return stats;
}

int64_t Scheduler::next_deadline_us() const {
  return state_->deadlines.empty() ? 0 : state_->deadlines.begin()->first;
}

}  // namespace beryl::scheduler
