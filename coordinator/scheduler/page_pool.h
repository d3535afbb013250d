// The pages of cache memory of one rank (cache_pages.h), by id. A page is free, used, or retiring
// (given up, but a plan that names it has not completed yet). Every move that is not one of
// free -> used -> retiring -> free is a bug of ours and aborts.
#pragma once

#include <cstdint>
#include <vector>

namespace beryl::scheduler {

class PagePool {
 public:
  explicit PagePool(uint32_t num_pages);

  // Aborts when none is free: callers look at num_free() first.
  uint32_t take();
  void begin_retiring(uint32_t page);
  void end_retiring(uint32_t page);

  uint32_t num_total() const { return static_cast<uint32_t>(state_.size()); }
  uint32_t num_free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t num_retiring() const { return num_retiring_; }
  // Not free: used or retiring.
  uint32_t num_taken() const { return num_total() - num_free(); }

 private:
  enum class State : uint8_t { kFree, kUsed, kRetiring };
  void move(uint32_t page, State from, State to);

  std::vector<State> state_;    // [num_pages]
  std::vector<uint32_t> free_;  // last in, first out: a page freed too early is met at once
  uint32_t num_retiring_ = 0;
};

}  // namespace beryl::scheduler
