#include "coordinator/scheduler/rank_state.h"

#include <algorithm>
#include <utility>

#include "parallel/base/assert.h"

namespace beryl::scheduler {
namespace {

bool is_before(const RequestState* a, const RequestState* b) {
  return a->order < b->order;
}

}  // namespace

RankState::RankState(uint32_t rank, const GroupFacts& facts)
    : rank_(rank),
      block_size_(facts.block_size),
      sliding_window_(facts.sliding_window),
      pages_(facts.global_blocks_per_page),
      page_pool_(facts.num_pages) {
  // No more than can decode in one step, so that every running request has a row in each.
  const uint32_t num_handles = std::min(facts.max_num_seqs, facts.max_num_batched_tokens);
  for (uint32_t handle = num_handles; handle > 0; --handle) free_handles_.push_back(handle - 1);
}

void RankState::place(RequestState& request) {
  BERYL_ASSERT(has_handle(), "rank {} has no free handle", rank_);
  request.phase = Phase::kRunning;
  request.placement = Placement{};
  request.placement.rank = rank_;
  request.placement.handle = free_handles_.back();
  request.placement.prefill_end = request.num_tokens();
  free_handles_.pop_back();
  prefill_tokens_left_ += request.num_tokens();
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &request, is_before),
                  &request);
}

void RankState::unplace(RequestState& request, Retirement& retirement) {
  Placement& placement = request.placement;
  const auto found = std::lower_bound(running_.begin(), running_.end(), &request, is_before);
  BERYL_ASSERT(found != running_.end() && *found == &request, "request {} does not run on rank {}",
               request.spec.id, rank_);
  running_.erase(found);
  for (size_t idx = 0; idx < placement.global_blocks.size(); idx += pages_.global_blocks()) {
    const uint32_t page = placement.global_blocks[idx] / pages_.global_blocks();
    retirement.retire(page_pool_, page, placement.last_step);
  }
  for (uint32_t page : placement.sliding_blocks) {
    retirement.retire(page_pool_, page, placement.last_step);
  }
  if (placement.is_prefilling()) {
    prefill_tokens_left_ -= placement.prefill_end - placement.num_planned;
  }
  releases_.push_back(placement.handle);
  free_handles_.push_back(placement.handle);
  placement = Placement{};
}

void RankState::extend(Placement& placement, uint32_t end, PlannedRow& row) {
  while (placement.num_blocks() * uint64_t{block_size_} < end) {
    const bool is_new_page = placement.num_blocks() % pages_.global_blocks() == 0;
    row.new_global_blocks.push_back(is_new_page ? page_pool_.take() * pages_.global_blocks()
                                                : placement.global_blocks.back() + 1);
    row.new_sliding_blocks.push_back(page_pool_.take());
    placement.global_blocks.push_back(row.new_global_blocks.back());
    placement.sliding_blocks.push_back(row.new_sliding_blocks.back());
  }
}

void RankState::drop_behind_window(Placement& placement, Retirement& retirement) {
  const uint32_t start = placement.num_planned;
  const uint32_t first_live = start < sliding_window_ ? 0 : start - (sliding_window_ - 1);
  const uint32_t num_dropped = first_live / block_size_;
  if (num_dropped <= placement.num_dropped) return;
  // With a window of 1 the block of the next position may not be given yet.
  const uint32_t num_to_drop = std::min(num_dropped - placement.num_dropped,
                                        static_cast<uint32_t>(placement.sliding_blocks.size()));
  for (uint32_t idx = 0; idx < num_to_drop; ++idx) {
    retirement.retire(page_pool_, placement.sliding_blocks[idx], placement.last_step);
  }
  placement.sliding_blocks.erase(placement.sliding_blocks.begin(),
                                 placement.sliding_blocks.begin() + num_to_drop);
  placement.num_dropped += num_to_drop;
}

uint32_t RankState::rows_within(const Placement& placement, uint32_t num_more) const {
  const uint64_t num_blocks =
      uint64_t{placement.num_blocks()} + pages_.blocks_within(placement.num_blocks(), num_more);
  const uint64_t end = num_blocks * block_size_;
  return static_cast<uint32_t>(std::min<uint64_t>(end - placement.num_planned, UINT32_MAX));
}

std::vector<uint32_t> RankState::take_releases() {
  return std::exchange(releases_, {});
}

}  // namespace beryl::scheduler
