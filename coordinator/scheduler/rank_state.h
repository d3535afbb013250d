// One rank of a group: its pages, handles and running requests.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/cache_pages.h"
#include "coordinator/scheduler/page_pool.h"
#include "coordinator/scheduler/request_state.h"
#include "coordinator/scheduler/retirement.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/step_plan.h"

namespace beryl::scheduler {

class RankState {
 public:
  RankState(uint32_t rank, const GroupFacts& facts);

  // Gives the request a handle and a fresh Placement. A handle is free.
  void place(RequestState& request);
  // Takes everything back: blocks retire, the handle is released by the next plan.
  void unplace(RequestState& request, Retirement& retirement);
  // Appends blocks for positions below `end` to both tables and to `row`. They must be free.
  void extend(Placement& placement, uint32_t end, PlannedRow& row);
  // A row up to num_planned was planned: blocks before the next row's window retire.
  void drop_behind_window(Placement& placement, Retirement& retirement);

  // Rows from `start` that blocks given, and those of `num_more` new pages, can hold.
  uint32_t rows_within(const Placement& placement, uint32_t num_more) const;
  uint32_t num_free_pages() const { return page_pool_.num_free(); }
  // Also those that come back without anyone's doing.
  uint32_t num_coming_pages() const { return page_pool_.num_free() + page_pool_.num_retiring(); }

  bool has_handle() const { return !free_handles_.empty(); }
  std::vector<uint32_t> take_releases();
  // In order of service, oldest first.
  const std::vector<RequestState*>& running() const { return running_; }
  void count_planned_prefill(uint32_t num_tokens) { prefill_tokens_left_ -= num_tokens; }
  // Tokens of running requests that no row has carried yet.
  uint64_t prefill_tokens_left() const { return prefill_tokens_left_; }

  // In the last step some decoding requests had no row, to make way for a span.
  bool made_way() const { return made_way_; }
  void set_made_way(bool made_way) { made_way_ = made_way; }

  PagePool& page_pool() { return page_pool_; }
  const PagePool& page_pool() const { return page_pool_; }

 private:
  uint32_t rank_;
  uint32_t block_size_;
  uint32_t sliding_window_;
  CachePages pages_;
  PagePool page_pool_;
  std::vector<uint32_t> free_handles_;
  // A handle returns to free_handles_ at once: the plan that gives it away again releases it first.
  std::vector<uint32_t> releases_;
  std::vector<RequestState*> running_;
  uint64_t prefill_tokens_left_ = 0;
  bool made_way_ = false;
};

}  // namespace beryl::scheduler
