#include "coordinator/scheduler/retirement.h"

#include "parallel/base/assert.h"

namespace beryl::scheduler {

void Retirement::retire(PagePool& pool, uint32_t page, uint64_t last_step) {
  pool.begin_retiring(page);
  if (last_step <= completed_step_) {
    pool.end_retiring(page);
    return;
  }
  const size_t idx = last_step - completed_step_ - 1;
  if (by_step_.size() <= idx) by_step_.resize(idx + 1);
  by_step_[idx].push_back({&pool, page});
}

void Retirement::complete(uint64_t step) {
  BERYL_ASSERT(step >= completed_step_, "step {} completes after step {}", step, completed_step_);
  while (completed_step_ < step) {
    ++completed_step_;
    if (by_step_.empty()) continue;
    for (const Waiting& waiting : by_step_.front()) waiting.pool->end_retiring(waiting.page);
    by_step_.pop_front();
  }
}

void Retirement::reset() {
  completed_step_ = 0;
  by_step_.clear();
}

}  // namespace beryl::scheduler
