#include "coordinator/scheduler/chunking.h"

#include <algorithm>

#include "coordinator/scheduler/capacity.h"

namespace beryl::scheduler {

uint32_t row_limit(const SchedulerConfig& config, const GroupFacts& facts, const CostModel& cost,
                   bool is_decoding) {
  if (!is_decoding) return facts.max_num_batched_tokens;
  return cost.rows_within(config.target_itl_us, facts.max_num_batched_tokens);
}

uint32_t prompt_limit(const GroupFacts& facts, uint32_t row_limit, uint32_t num_decoding) {
  const uint32_t hard_limit = facts.max_num_batched_tokens - num_decoding;
  const uint32_t soft_limit = row_limit > num_decoding ? row_limit - num_decoding : 0;
  return std::min(hard_limit, std::max(soft_limit, kMinChunkTokens));
}

Room find_room(const RankState& rank, const Placement& placement, uint32_t num_rows_wanted,
               bool may_take_blocks) {
  const auto rows_with = [&](uint32_t num_more) {
    return std::min(num_rows_wanted, rank.rows_within(placement, num_more));
  };
  if (!may_take_blocks) {
    const uint32_t num_rows = rows_with(0);
    return {num_rows > 0 ? RoomVerdict::kTake : RoomVerdict::kWait, num_rows};
  }
  const uint32_t num_rows = rows_with(rank.num_free_blocks());
  // Not worth a step of its own if more blocks are on their way.
  const bool is_worthwhile = num_rows >= std::min(num_rows_wanted, kMinChunkTokens);
  if (is_worthwhile) return {RoomVerdict::kTake, num_rows};
  if (rows_with(rank.num_coming_blocks()) > num_rows) return {RoomVerdict::kWait, 0};
  if (num_rows > 0) return {RoomVerdict::kTake, num_rows};
  return {RoomVerdict::kPreempt, 0};
}

}  // namespace beryl::scheduler
