#include "coordinator/scheduler/page_pool.h"

#include "parallel/base/assert.h"

namespace beryl::scheduler {

PagePool::PagePool(uint32_t num_pages) : state_(num_pages, State::kFree) {
  free_.reserve(num_pages);
  for (uint32_t page = num_pages; page > 0; --page) free_.push_back(page - 1);
}

uint32_t PagePool::take() {
  BERYL_ASSERT(!free_.empty(), "no free page of {}", num_total());
  const uint32_t page = free_.back();
  free_.pop_back();
  move(page, State::kFree, State::kUsed);
  return page;
}

void PagePool::begin_retiring(uint32_t page) {
  move(page, State::kUsed, State::kRetiring);
  ++num_retiring_;
}

void PagePool::end_retiring(uint32_t page) {
  move(page, State::kRetiring, State::kFree);
  --num_retiring_;
  free_.push_back(page);
}

void PagePool::move(uint32_t page, State from, State to) {
  BERYL_ASSERT(page < num_total(), "page {} of {}", page, num_total());
  BERYL_ASSERT(state_[page] == from, "page {} is in state {}, expected {}", page,
               static_cast<int>(state_[page]), static_cast<int>(from));
  state_[page] = to;
}

}  // namespace beryl::scheduler
