// Plans one step: rows for running requests in order of service (preempting the newest where blocks
// run out), then admissions from the head of the queue.
#pragma once

#include <optional>
#include <vector>

#include "coordinator/scheduler/group_state.h"
#include "coordinator/scheduler/home_rank.h"
#include "coordinator/scheduler/step_plan.h"

namespace beryl::scheduler {

class Planner {
 public:
  // One planner plans one step of `state`, which has an epoch.
  explicit Planner(GroupState& state);

  // Nothing if no request can take a row now. O(running + admitted * ranks).
  std::optional<StepPlan> plan();

 private:
  void start_step();
  void plan_running(uint32_t rank);
  // Rows the request could use: 0 while its last possible token is in flight.
  uint32_t rows_wanted(uint32_t rank, const RequestState& request) const;
  uint32_t make_room(uint32_t rank, RequestState& request, uint32_t num_rows_wanted);
  void admit_waiting();
  void refresh_offer(uint32_t rank);
  void admit(RequestState& request, uint32_t rank);
  void add_row(uint32_t rank, RequestState& request, uint32_t count);
  StepPlan finish_step();

  GroupState& state_;
  const GroupFacts& facts_;
  const uint64_t step_;
  StepPlan plan_;
  StepInFlight in_flight_;
  std::vector<uint32_t> prompt_rows_left_;  // [num_ranks]
  std::vector<bool> is_stalled_;            // [num_ranks] somebody waits for blocks
  std::vector<RankOffer> offers_;           // [num_ranks]
};

// Slots per peer in padded mode: the least of 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, ... that holds
// num_rows.
uint32_t bucket_of(uint32_t num_rows);

}  // namespace beryl::scheduler
