// Everything a Scheduler knows. Its parts are functions over this state: planning (planner.h),
// results (result_applier.h) and the life of requests (here).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "coordinator/scheduler/cost_model.h"
#include "coordinator/scheduler/feature_store.h"
#include "coordinator/scheduler/rank_state.h"
#include "coordinator/scheduler/request_state.h"
#include "coordinator/scheduler/retirement.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/waiting_queue.h"

namespace beryl::scheduler {

// What a rank owes for one planned row.
struct RowInFlight {
  RequestState* request = nullptr;  // kept until rows_in_flight is 0, even if it ends before
  uint32_t handle = 0;
  uint32_t start = 0;
  uint32_t count = 0;
  bool sample = false;
  bool prefill = false;
};

struct StepInFlight {
  uint64_t step = 0;
  std::vector<std::vector<RowInFlight>> rows;  // [num_ranks][rows of the rank]
  uint32_t num_reported = 0;                   // ranks
  uint32_t max_rows = 0;                       // of the busiest rank
  int64_t duration_us = 0;                     // of the slowest rank
  bool has_feature_jobs = false;
};

struct VisionCounts {
  uint64_t encoded_patches = 0;
  uint64_t hits = 0;    // spans whose features their rank kept already
  uint64_t misses = 0;  // … were encoded
  uint64_t moves = 0;   // … came from another rank
};

struct GroupState {
  explicit GroupState(const SchedulerConfig& scheduler_config) : config(scheduler_config) {}

  const SchedulerConfig config;
  std::optional<GroupFacts> facts;  // stay known between epochs
  uint64_t epoch = 0;               // the latest; it runs if has_epoch
  bool has_epoch = false;

  std::unordered_map<RequestId, std::unique_ptr<RequestState>> requests;
  WaitingQueue waiting;
  std::set<std::pair<int64_t, RequestId>> deadlines;
  uint64_t num_arrivals = 0;
  uint32_t num_running = 0;

  std::vector<RankState> ranks;  // never resized within an epoch: retirement points into it
  Retirement retirement;
  std::deque<StepInFlight> in_flight;
  std::vector<uint64_t> last_result;  // [num_ranks] the last step a rank reported
  uint64_t last_planned = 0;
  CostModel cost;
  FeatureStore features;
  std::vector<uint64_t> encoded_flop;  // [num_ranks] in this epoch

  std::vector<SchedulerEvent> events;
  uint64_t num_preemptions = 0;
  uint64_t tokens_generated = 0;
  uint64_t prompt_tokens_computed = 0;
  VisionCounts vision_counts;

  // Waiting -> running on `rank`.
  void start(RequestState& request, RankState& rank);
  // Running -> waiting; a token in flight still belongs to the request.
  void preempt(RequestState& request);
  // Features kept for its spans further on may be dropped.
  void unpin_features(RequestState& request);
  // Rows up to num_planned were planned: spans before it need their features no more.
  void pass_spans(RequestState& request);
  // Ends a request from any phase; `event` says how. The state goes once no row of it is in flight:
  // call drop_if_settled() after the last use of `request`.
  void finish(RequestState& request, SchedulerEvent event);
  void finish(RequestState& request, FinishReason reason, std::string error = {});
  void drop_if_settled(RequestState& request);
  // Every running request waits again, what is in flight is forgotten.
  void lose_epoch();

 private:
  void count_loss(RequestState& request);
};

}  // namespace beryl::scheduler
