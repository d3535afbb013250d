// How many prompt tokens each rank may carry in a step, and how many rows of one request fit. The
// rows of a picture's span are never parted.
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

// Of `num_rows` rows from num_planned on, those before the span that they would cut, or all. 0:
// they end within the span that they start with.
uint32_t cut_at_span(const RequestState& request, uint32_t num_rows);

// Rows of the next chunk of a prefilling request, given `soft_limit` rows: fewer where a span would
// be cut; more, up to `hard_limit`, where it starts with a span. 0: the span has to wait.
uint32_t chunk_rows(const RequestState& request, uint32_t soft_limit, uint32_t hard_limit);

// Rows that the next chunk of a prefilling request cannot go without.
uint32_t least_chunk_rows(const RequestState& request);

// `may_take_blocks`: false if an older request of the rank waits for blocks in this step.
Room find_room(const RankState& rank, const RequestState& request, uint32_t num_rows_wanted,
               bool may_take_blocks);

}  // namespace beryl::scheduler
