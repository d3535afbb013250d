// How many prompt tokens each rank may carry in a step, and how many rows of one request fit.
#pragma once

#include <cstdint>
#include <optional>

#include "coordinator/scheduler/cost_model.h"
#include "coordinator/scheduler/rank_state.h"
#include "coordinator/scheduler/scheduler.h"

namespace beryl::scheduler {

// Rows that one step of the busiest rank may carry. Bounded by target_itl_us only while somebody
// decodes (on any rank: they run in lockstep).
uint32_t row_limit(const SchedulerConfig& config, const GroupFacts& facts, const CostModel& cost,
                   bool is_decoding);

// Prompt tokens for a rank with `num_decoding` decode rows. At least one for each prefilling
// request that it can hold, and kMinChunkTokens where max_num_batched_tokens leaves them.
uint32_t prompt_limit(const GroupFacts& facts, uint32_t row_limit, uint32_t num_decoding);

enum class RoomVerdict {
  kTake,     // plan that many rows
  kWait,     // enough blocks are retiring: nothing in this step
  kPreempt,  // no row fits, and no block comes by itself
};

struct Room {
  RoomVerdict verdict = RoomVerdict::kWait;
  uint32_t num_rows = 0;
};

// `may_take_blocks`: false if an older request of the rank waits for blocks in this step.
Room find_room(const RankState& rank, const Placement& placement, uint32_t num_rows_wanted,
               bool may_take_blocks);

}  // namespace beryl::scheduler
