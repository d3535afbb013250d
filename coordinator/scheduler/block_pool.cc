#include "coordinator/scheduler/block_pool.h"

#include "parallel/base/assert.h"

namespace beryl::scheduler {

BlockPool::BlockPool(uint32_t num_blocks) : state_(num_blocks, State::kFree) {
  free_.reserve(num_blocks);
  for (uint32_t block = num_blocks; block > 0; --block) free_.push_back(block - 1);
}

uint32_t BlockPool::take() {
  BERYL_ASSERT(!free_.empty(), "no free block of {}", num_total());
  const uint32_t block = free_.back();
  free_.pop_back();
  move(block, State::kFree, State::kUsed);
  return block;
}

void BlockPool::begin_retiring(uint32_t block) {
  move(block, State::kUsed, State::kRetiring);
  ++num_retiring_;
}

void BlockPool::end_retiring(uint32_t block) {
  move(block, State::kRetiring, State::kFree);
  --num_retiring_;
  free_.push_back(block);
}

void BlockPool::move(uint32_t block, State from, State to) {
  BERYL_ASSERT(block < num_total(), "block {} of {}", block, num_total());
  BERYL_ASSERT(state_[block] == from, "block {} is in state {}, expected {}", block,
               static_cast<int>(state_[block]), static_cast<int>(from));
  state_[block] = to;
}

}  // namespace beryl::scheduler
