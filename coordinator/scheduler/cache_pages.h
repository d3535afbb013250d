// Cache memory of a rank comes in pages, and either kind of layer may take any page. A page holds
// one block of all sliding layers, or `global_blocks` consecutive blocks of all global layers,
// always of one request. Page p holds the sliding block p, or the global blocks p * global_blocks
// and up.
#pragma once

#include <cstdint>

namespace beryl::scheduler {

struct PageNeed {
  uint32_t global = 0;  // pages, of either kind
  uint32_t sliding = 0;

  uint32_t total() const { return global + sliding; }
};

class CachePages {
 public:
  explicit CachePages(uint32_t global_blocks) : global_blocks_(global_blocks) {}

  uint32_t global_blocks() const { return global_blocks_; }
  // Pages that hold the first `num_blocks` global blocks of a request.
  uint32_t global_pages(uint32_t num_blocks) const {
    return num_blocks / global_blocks_ + (num_blocks % global_blocks_ != 0 ? 1 : 0);
  }
  // Blocks of both kinds that a request which has `num_blocks` global ones can get from `num_pages`
  // more pages: what its last page still holds costs a sliding page each, then every
  // `global_blocks` blocks cost one more.
  uint32_t blocks_within(uint32_t num_blocks, uint32_t num_pages) const {
    const uint32_t spare = global_pages(num_blocks) * global_blocks_ - num_blocks;
    if (num_pages <= spare) return num_pages;
    const uint32_t rest = num_pages - spare;
    const uint32_t num_global = rest / (global_blocks_ + 1) + (rest % (global_blocks_ + 1) ? 1 : 0);
    return spare + rest - num_global;
  }

 private:
  uint32_t global_blocks_;
};

}  // namespace beryl::scheduler
