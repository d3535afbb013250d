// A Scheduler and a model group that are driven step by step, for tests of single behaviours.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/scheduler/scheduler.h"
#include "tests/coordinator/scheduler/plan_checker.h"

namespace beryl::scheduler::sim {

inline GroupFacts small_facts() {
  return {.num_ranks = 1,
          .max_model_len = 100,
          .sliding_window = 16,
          .block_size = 4,
          .num_pages = 200,
          .global_blocks_per_page = 1,
          .max_num_seqs = 8,
          .max_num_batched_tokens = 64};
}

inline NewRequest make_request(RequestId id, uint32_t num_prompt_tokens, uint32_t max_tokens) {
  NewRequest request;
  request.id = id;
  request.prompt_token_ids.assign(num_prompt_tokens, static_cast<int32_t>(id % 7));
  request.max_tokens = max_tokens;
  request.sampling.seed = id;
  return request;
}

class StepDriver {
 public:
  explicit StepDriver(const GroupFacts& facts, const SchedulerConfig& config = {})
      : config_(config), scheduler(config) {
    start_epoch(facts);
  }

  bool start_epoch(const GroupFacts& facts) {
    facts_ = facts;
    ++epoch_;
    group_ = std::make_unique<ModelGroup>(epoch_, facts, config_);
    in_flight_.clear();
    return static_cast<bool>(scheduler.start_epoch(epoch_, facts));
  }

  // The next plan, checked; the group has not executed it yet.
  std::optional<StepPlan> plan(int64_t now_us = 0) {
    std::optional<StepPlan> plan = scheduler.plan(now_us);
    if (!plan) return plan;
    if (std::string wrong = group_->accept(*plan); !wrong.empty() && error.empty()) error = wrong;
    in_flight_.push_back(plan->step);
    return plan;
  }

  const ModelGroup& group() const { return *group_; }
  // What the rank reports of its oldest step. Given to the scheduler by the caller.
  RankResult execute(uint32_t rank = 0) { return group_->execute(rank); }

  // Every rank executes its oldest step and reports it.
  bool complete(int64_t duration_us = 1'000) {
    bool accepted = true;
    for (uint32_t rank = 0; rank < facts_.num_ranks; ++rank) {
      RankResult result = execute(rank);
      result.duration_us = duration_us;
      accepted &= scheduler.on_result(result);
    }
    in_flight_.pop_front();
    return accepted;
  }

  // Steps until nothing is left to do, at most `limit`; all events since the last take.
  std::vector<SchedulerEvent> run_all(int limit = 10'000) {
    for (; limit > 0 && (plan() || !in_flight_.empty()); --limit) complete();
    return scheduler.take_events();
  }

 private:
  SchedulerConfig config_;
  GroupFacts facts_;
  uint64_t epoch_ = 0;
  std::unique_ptr<ModelGroup> group_;
  std::deque<uint64_t> in_flight_;

 public:
  Scheduler scheduler;
  std::string error;  // the first plan that was not sound
};

// Tokens of one request in a list of events.
inline std::vector<int32_t> tokens_of(const std::vector<SchedulerEvent>& events, RequestId id) {
  std::vector<int32_t> tokens;
  for (const SchedulerEvent& event : events) {
    if (event.request != id) continue;
    for (const GeneratedToken& token : event.tokens) tokens.push_back(token.token_id);
  }
  return tokens;
}

// How the request ended; nothing while it has not.
inline std::optional<FinishReason> end_of(const std::vector<SchedulerEvent>& events, RequestId id) {
  for (const SchedulerEvent& event : events) {
    if (event.request == id && event.finished) return event.reason;
  }
  return std::nullopt;
}

}  // namespace beryl::scheduler::sim
