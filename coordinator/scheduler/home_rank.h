// Which rank a request will live on: the least loaded of those that have room for it now; among
// equals, one that keeps the features of its pictures.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "coordinator/scheduler/capacity.h"

namespace beryl::scheduler {

// A rank as seen by the request at the head of the queue, in the step that is being planned.
struct RankOffer {
  bool is_open = false;      // a free handle, and nobody on it stalls for blocks
  uint32_t prompt_rows = 0;  // prompt tokens the step may still carry
  uint32_t promised = 0;     // pages that its prefilling requests will still need
  uint32_t pages = 0;        // that nobody was promised
  uint64_t tokens_queued = 0;
  uint32_t num_running = 0;
  uint64_t vision_tokens = 0;  // encoding in this step, in prompt tokens of equal cost
  // About the request: whether it may be admitted here (its first span could go, or may wait), and
  // soft tokens whose features the rank keeps.
  bool can_start = true;
  uint32_t feature_tokens_kept = 0;
};

// Nothing if no rank that it can start on has a handle, `num_pages` pages and rows for a
// chunk.
std::optional<uint32_t> choose_home_rank(const std::vector<RankOffer>& offers, uint32_t num_pages);

}  // namespace beryl::scheduler
