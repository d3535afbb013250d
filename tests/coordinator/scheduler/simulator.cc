#include "tests/coordinator/scheduler/simulator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "coordinator/scheduler/group_state.h"

namespace beryl::scheduler::sim {
namespace {

constexpr int64_t kStepBaseUs = 500;
constexpr int64_t kRowUs = 20;
constexpr double kSlowRankChance = 0.002;
constexpr int64_t kSlowRankFactor = 10;
// Longest step there is: 256 rows, twice the time by chance, on a slow rank.
constexpr int64_t kLongestStepUs = (kStepBaseUs + 256 * kRowUs) * 2 * kSlowRankFactor;

}  // namespace

Simulator::Simulator(const Scenario& scenario)
    : scenario_(scenario),
      facts_(scenario.facts),
      random_(scenario.seed ^ 0x5EED),
      scheduler_(scenario.config),
      planter_(scenario.fault) {}

int64_t Simulator::exponential(double mean_us) {
  const double uniform = static_cast<double>((random_() >> 11) + 1) * 0x1.0p-53;
  return static_cast<int64_t>(-mean_us * std::log(uniform)) + 1;
}

void Simulator::schedule(int64_t time_us, Kind kind, uint64_t subject) {
  events_.push({time_us, ++sequence_, kind, subject, epoch_});
}

void Simulator::fail(const std::string& what) {
  if (report_.failure.empty()) {
    report_.failure = fmt::format("seed {} at {} us: {}", scenario_.seed, now_us_, what);
  }
}

SimReport Simulator::run() {
  start_group();
  schedule(1, Kind::kArrival);
  if (scenario_.mean_time_to_loss_us > 0) {
    schedule(exponential(scenario_.mean_time_to_loss_us), Kind::kLoss);
  }
  while (!events_.empty() && report_.failure.empty()) {
    const Event event = events_.top();
    events_.pop();
    now_us_ = event.time_us;
    handle(event);
    pump();
    if (must_end_by_us_ != 0 && now_us_ > must_end_by_us_ && clients_.num_open() > 0) {
      fail(fmt::format("starved: {} requests still open", clients_.num_open()));
    }
  }
  if (report_.failure.empty()) check_end();
  report_.num_tokens = clients_.num_tokens();
  report_.virtual_us = now_us_;
  const SchedulerStats stats = scheduler_.stats();
  report_.num_preemptions = stats.num_preemptions;
  report_.feature_hits = stats.feature_hits;
  report_.feature_misses = stats.feature_misses;
  report_.feature_moves = stats.feature_moves;
  for (int reason = 0; reason < 5; ++reason) {
    report_.num_ended[reason] = clients_.num_ended(static_cast<FinishReason>(reason));
  }
  return report_;
}

void Simulator::handle(const Event& event) {
  switch (event.kind) {
    case Kind::kArrival:
      return arrive();
    case Kind::kCancel:
      if (clients_.is_open(event.subject)) clients_.note_cancel(event.subject);
      return scheduler_.cancel(event.subject);
    case Kind::kRankDone:
      return rank_done(event);
    case Kind::kLoss:
      return lose_group();
    case Kind::kReturn:
      return start_group();
    case Kind::kDeadline:
      return;  // pump() calls plan(), which expires it
  }
}

NewRequest Simulator::draw_request() {
  NewRequest request;
  request.prompt_token_ids.resize(draw(random_, 1, scenario_.max_prompt));
  for (int32_t& token : request.prompt_token_ids) {
    token = static_cast<int32_t>(random_() % kVocabSize);
  }
  if (chance(random_, scenario_.picture_chance)) request.pictures = draw_pictures(request);
  request.max_tokens = static_cast<uint32_t>(draw(random_, 1, scenario_.max_answer));
  request.sampling.seed = random_();
  if (chance(random_, 0.3)) {
    request.sampling.min_tokens = static_cast<uint32_t>(draw(random_, 0, request.max_tokens));
  }
  for (uint64_t idx = draw(random_, 0, 3); idx > 0; --idx) {
    request.stop_token_ids.push_back(static_cast<int32_t>(random_() % kVocabSize));
  }
  if (chance(random_, scenario_.prompt_logprob_chance)) request.sampling.num_prompt_logprobs = 0;
  if (scenario_.has_priorities) request.priority = static_cast<int32_t>(draw(random_, 0, 2)) - 1;
  return request;
}

std::vector<PictureSpan> Simulator::draw_pictures(const NewRequest& request) {
  const auto num_tokens = static_cast<uint32_t>(request.prompt_token_ids.size());
  std::vector<PictureSpan> pictures;
  uint32_t start = chance(random_, 0.4) ? 0 : static_cast<uint32_t>(draw(random_, 0, num_tokens));
  while (start < num_tokens) {
    const PictureSpan span = picture_of(draw(random_, 1, scenario_.num_pictures), scenario_);
    if (span.num_tokens > num_tokens - start) break;
    pictures.push_back(span);
    pictures.back().start = chance(random_, 0.1) ? num_tokens - span.num_tokens : start;
    start = pictures.back().end();
    if (chance(random_, 0.5)) start += static_cast<uint32_t>(draw(random_, 0, num_tokens / 2));
  }
  return pictures;
}

void Simulator::arrive() {
  const NewRequest drawn = draw_request();
  const uint64_t num_choices = chance(random_, scenario_.choices_chance) ? draw(random_, 2, 4) : 1;
  for (uint32_t choice = 0; choice < num_choices; ++choice) {
    NewRequest request = drawn;
    request.sampling.choice = choice;
    submit(std::move(request));
  }
  if (faults_go_on()) {
    const bool at_once = chance(random_, scenario_.burst_chance);
    schedule(now_us_ + (at_once ? 0 : exponential(scenario_.mean_gap_us)), Kind::kArrival);
    return;
  }
  // Liveness: from now on no group is lost, and even one row a step must get all of it done.
  must_end_by_us_ = now_us_ + 10'000'000 + static_cast<int64_t>(work_tokens_) * kLongestStepUs;
}

void Simulator::submit(NewRequest request) {
  request.id = ++num_drawn_;
  const RequestId id = request.id;
  if (chance(random_, scenario_.deadline_chance)) {
    request.deadline_us = now_us_ + exponential(50'000);
  }
  if (chance(random_, scenario_.cancel_chance)) {
    schedule(now_us_ + exponential(30'000) - 1, Kind::kCancel, id);
  }
  work_tokens_ += request.prompt_token_ids.size() + request.max_tokens;
  clients_.open(request);
  ++report_.num_requests;
  const base::Status added = scheduler_.add(std::move(request));
  if (!added) fail(fmt::format("request {} was refused: {}", id, added.error().message));
}

void Simulator::rank_done(const Event& event) {
  const auto rank = static_cast<uint32_t>(event.subject);
  RankResult result;
  if (group_ && event.epoch == epoch_) {
    result = group_->execute(rank);
    result.duration_us = durations_us_[rank].front();
    durations_us_[rank].pop_front();
    if (!group_->error().empty()) fail(group_->error());
  } else {
    result.epoch = event.epoch;  // late, from a group that is gone
    result.rank = rank;
    result.step = 1;
    result.outputs.resize(1);
  }
  if (!scheduler_.on_result(result)) {
    fail(fmt::format("a result of epoch {} was refused", event.epoch));
  }
}

void Simulator::lose_group() {
  if (!faults_go_on()) return;
  ++report_.num_lost_epochs;
  if (chance(random_, 0.7)) {
    scheduler_.end_epoch();
    group_.reset();
    schedule(now_us_ + exponential(20'000), Kind::kReturn);
  } else {
    start_group();
  }
  schedule(now_us_ + exponential(scenario_.mean_time_to_loss_us), Kind::kLoss);
}

void Simulator::start_group() {
  ++epoch_;
  if (scenario_.ranks_may_change) {
    facts_.num_ranks = static_cast<uint32_t>(draw(random_, 1, scenario_.facts.num_ranks));
  }
  const base::Status started = scheduler_.start_epoch(epoch_, facts_);
  if (!started) fail(started.error().message);
  group_ = std::make_unique<ModelGroup>(epoch_, facts_, scenario_.config);
  rank_free_us_.assign(facts_.num_ranks, now_us_);
  durations_us_.assign(facts_.num_ranks, {});
}

void Simulator::pump() {
  take_events();
  while (report_.failure.empty()) {
    planter_.plant(scheduler_);
    std::optional<StepPlan> plan = scheduler_.plan(now_us_);
    take_events();
    if (!plan) break;
    dispatch(std::move(*plan));
  }
  const SchedulerStats stats = scheduler_.stats();
  if (stats.num_waiting + stats.num_running != clients_.num_open()) {
    fail(fmt::format("{} waiting and {} running of {} open requests", stats.num_waiting,
                     stats.num_running, clients_.num_open()));
  }
  if (scheduler_.has_epoch() && stats.steps_in_flight == 0 && clients_.num_open() > 0) {
    fail(fmt::format("stuck with {} open requests", clients_.num_open()));
  }
  const int64_t deadline_us = scheduler_.next_deadline_us();
  if (deadline_us != 0 && deadline_us != wake_us_) {
    wake_us_ = deadline_us;
    schedule(deadline_us, Kind::kDeadline);
  }
}

void Simulator::dispatch(StepPlan plan) {
  planter_.spoil(scheduler_, plan);
  ++report_.num_steps;
  report_.num_padded_steps += plan.mode == StepMode::kPadded ? 1 : 0;
  if (std::string error = group_->accept(plan); !error.empty()) fail(error);
  if (std::string error = check_accounting(scheduler_); !error.empty()) fail(error);
  uint32_t max_rows = 0;
  for (const RankPlan& rank : plan.ranks) max_rows = std::max(max_rows, rank.num_rows);
  if (scenario_.fault == PlantedFault::kNone) check_features_kept();
  for (uint32_t rank = 0; rank < plan.ranks.size(); ++rank) {
    int64_t duration_us = kStepBaseUs + kRowUs * max_rows;
    duration_us += static_cast<int64_t>(random_() % static_cast<uint64_t>(duration_us));
    if (chance(random_, kSlowRankChance)) duration_us *= kSlowRankFactor;
    durations_us_[rank].push_back(duration_us);
    rank_free_us_[rank] = std::max(rank_free_us_[rank], now_us_) + duration_us;
    schedule(rank_free_us_[rank], Kind::kRankDone, rank);
  }
}

void Simulator::check_features_kept() {
  for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
    const uint32_t num_kept = SchedulerProbe::state(scheduler_).features.num_kept(rank);
    if (num_kept == group_->num_features_kept(rank)) continue;
    fail(fmt::format("rank {} keeps {} feature tokens, not {}", rank,
                     group_->num_features_kept(rank), num_kept));
  }
}

void Simulator::take_events() {
  for (const SchedulerEvent& event : scheduler_.take_events()) {
    if (std::string error = clients_.take(event, now_us_); !error.empty()) return fail(error);
  }
}

void Simulator::check_end() {
  if (std::string error = clients_.check_all_ended(); !error.empty()) fail(error);
  const SchedulerStats stats = scheduler_.stats();
  if (stats.pages_used > 0) fail(fmt::format("leak: {} pages", stats.pages_used));
  if (stats.num_waiting + stats.num_running + stats.queued_tokens + stats.steps_in_flight > 0) {
    fail("something is left over");
  }
  if (stats.tokens_generated != clients_.num_tokens()) {
    fail(fmt::format("{} tokens counted, {} received", stats.tokens_generated,
                     clients_.num_tokens()));
  }
  if (!SchedulerProbe::state_is_empty(scheduler_)) fail("requests are kept after their end");
}

}  // namespace beryl::scheduler::sim
