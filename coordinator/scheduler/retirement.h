// Pages that were given up wait here until the last plan that names them has completed on EVERY
// rank: step n + 1 is planned while n runs, so a page freed at once could be written by its next
// owner while its old one is still being read.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "coordinator/scheduler/page_pool.h"

namespace beryl::scheduler {

class Retirement {
 public:
  // `last_step`: the last step whose plan names the page. Free at once if it has completed.
  void retire(PagePool& pool, uint32_t page, uint64_t last_step);
  // Every step up to `step` has completed on every rank. Steps complete in order.
  void complete(uint64_t step);
  uint64_t completed_step() const { return completed_step_; }
  // A new epoch: its pools are new, what waited belongs to pools that are gone.
  void reset();

 private:
  struct Waiting {
    PagePool* pool;
    uint32_t page;
  };
  uint64_t completed_step_ = 0;
  std::deque<std::vector<Waiting>> by_step_;  // [0] waits for completed_step_ + 1
};

}  // namespace beryl::scheduler
