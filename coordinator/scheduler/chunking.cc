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

uint32_t cut_at_span(const RequestState& request, uint32_t num_rows) {
  const Placement& placement = request.placement;
  const std::vector<PictureSpan>& pictures = request.spec.pictures;
  const uint64_t end = uint64_t{placement.num_planned} + num_rows;
  for (size_t idx = placement.next_span; idx < pictures.size() && pictures[idx].start < end;
       ++idx) {
    if (pictures[idx].end() > end) return pictures[idx].start - placement.num_planned;
  }
  return num_rows;
}

uint32_t least_chunk_rows(const RequestState& request) {
  const Placement& placement = request.placement;
  const std::vector<PictureSpan>& pictures = request.spec.pictures;
  if (placement.next_span == pictures.size()) return 1;
  const PictureSpan& next = pictures[placement.next_span];
  return next.start == placement.num_planned ? next.num_tokens : 1;
}

uint32_t chunk_rows(const RequestState& request, uint32_t soft_limit, uint32_t hard_limit) {
  const uint32_t num_left = request.placement.prefill_end - request.placement.num_planned;
  const uint32_t num_wanted = std::min(num_left, soft_limit);
  if (num_wanted == 0) return 0;
  const uint32_t num_rows = cut_at_span(request, num_wanted);
  if (num_rows > 0) return num_rows;
  const uint32_t span_rows = least_chunk_rows(request);
  return span_rows <= hard_limit ? span_rows : 0;
}

Room find_room(const RankState& rank, const RequestState& request, uint32_t num_rows_wanted,
               bool may_take_blocks) {
  const Placement& placement = request.placement;
  const auto rows_with = [&](uint32_t num_more) {
    return cut_at_span(request, std::min(num_rows_wanted, rank.rows_within(placement, num_more)));
  };
  if (!may_take_blocks) {
    const uint32_t num_rows = rows_with(0);
    return {num_rows > 0 ? RoomVerdict::kTake : RoomVerdict::kWait, num_rows};
  }
  const uint32_t num_rows = rows_with(rank.num_free_pages());
  // Not worth a step of its own if more blocks are on their way, unless a span ended it.
  const bool ends_at_span = num_rows < rank.rows_within(placement, rank.num_free_pages());
  const bool is_worthwhile = num_rows >= std::min(num_rows_wanted, kMinChunkTokens);
  if (is_worthwhile || (num_rows > 0 && ends_at_span)) return {RoomVerdict::kTake, num_rows};
  if (rows_with(rank.num_coming_pages()) > num_rows) return {RoomVerdict::kWait, 0};
  if (num_rows > 0) return {RoomVerdict::kTake, num_rows};
  return {RoomVerdict::kPreempt, 0};
}

}  // namespace beryl::scheduler
