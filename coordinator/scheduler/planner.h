// Plans one step: rows for running requests in order of service (preempting the newest where blocks
// run out), then admissions from the head of the queue, then features for spans further on.
#pragma once

#include <optional>
#include <vector>

#include "coordinator/scheduler/feature_planner.h"
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
  // Decode rows of the rank in this step: all, or fewer where a span needs the room.
  uint32_t decode_rows(RankState& rank, uint32_t num_decoding);
  void plan_running(uint32_t rank);
  // Rows the request could use: 0 while its last possible token is in flight.
  uint32_t rows_wanted(uint32_t rank, const RequestState& request) const;
  // The next row belongs to a span whose features cannot come in this step.
  bool is_held_up(uint32_t rank, const RequestState& request) const;
  uint32_t make_room(uint32_t rank, RequestState& request, uint32_t num_rows_wanted);
  void admit_waiting();
  void refresh_offer(uint32_t rank);
  void describe_pictures(const RequestState& request);
  void admit(RequestState& request, uint32_t rank);
  void add_row(uint32_t rank, RequestState& request, uint32_t count);
  StepPlan finish_step();

  GroupState& state_;
  const GroupFacts& facts_;
  const uint64_t step_;
  StepPlan plan_;
  StepInFlight in_flight_;
  FeaturePlanner features_;
  uint64_t num_rows_ = 0;                         // of all ranks
  std::vector<uint32_t> decode_rows_left_;        // [num_ranks]
  std::vector<uint32_t> prompt_rows_left_;        // [num_ranks] to stay within target_itl_us
  std::vector<uint32_t> hard_rows_left_;          // [num_ranks] the same, but for that
  std::vector<RequestState*> wait_for_features_;  // prefilling requests with spans further on
  std::vector<bool> is_stalled_;                  // [num_ranks] somebody waits for blocks
  std::vector<RankOffer> offers_;                 // [num_ranks]
  bool offers_describe_pictures_ = false;         // of the last request, if it has any
  bool has_span_rows_ = false;
};

// Slots per peer in padded mode: the least of 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, ... that holds
// num_rows.
uint32_t bucket_of(uint32_t num_rows);

}  // namespace beryl::scheduler
