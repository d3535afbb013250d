// A request as the scheduler keeps it until it ends.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "coordinator/scheduler/request.h"

namespace beryl::scheduler {

// Order of service and, backwards, of preemption. A request of lower `priority` goes before those
// that came up to kPriorityStep arrivals earlier for each level: practically strict within a
// bounded queue, yet the number of later requests that may overtake one is bounded (no starvation).
struct ServiceOrder {
  static constexpr int64_t kPriorityStep = 4096;
  int64_t virtual_arrival = 0;
  uint64_t arrival = 0;  // breaks ties
  auto operator<=>(const ServiceOrder&) const = default;
};

enum class Phase { kWaiting, kRunning, kFinished };

// What a running request has on its home rank. Both kinds have ids for the same block numbers in
// order: 0, 1, 2, ...
struct Placement {
  uint32_t rank = 0;
  uint32_t handle = 0;
  uint32_t prefill_end = 0;              // tokens known at admission
  uint32_t num_planned = 0;              // positions in planned rows: the next row starts here
  uint64_t last_step = 0;                // the last step with a row of it
  std::vector<uint32_t> global_blocks;   // of block numbers 0, 1, ...
  std::vector<uint32_t> sliding_blocks;  // of block numbers num_dropped, ...
  uint32_t num_dropped = 0;              // sliding blocks that left the window
  // Spans of the prompt by index: before next_span, rows are planned; from there to pinned_end, the
  // rank keeps the features, pinned.
  uint32_t next_span = 0;
  uint32_t pinned_end = 0;

  bool is_prefilling() const { return num_planned < prefill_end; }
  bool has_pins() const { return pinned_end > next_span; }
  uint32_t num_blocks() const { return static_cast<uint32_t>(global_blocks.size()); }
};

struct RequestState {
  NewRequest spec;                 // its prompt has moved to token_ids
  std::vector<int32_t> token_ids;  // prompt and every token reported so far
  uint32_t num_prompt_tokens = 0;
  uint32_t longest_span = 0;  // soft tokens
  ServiceOrder order;
  Phase phase = Phase::kWaiting;
  bool was_scheduled = false;
  uint32_t next_prompt_logprob = 1;  // index of the prompt token whose logprob is told next
  // Rows of planned steps whose results are outstanding; they outlive preemption and finish.
  uint32_t rows_in_flight = 0;
  uint32_t samples_in_flight = 0;
  // Epochs lost with: since its last new token, and in all.
  uint32_t losses_without_progress = 0;
  uint32_t losses = 0;
  uint32_t tokens_at_last_loss = 0;
  Placement placement;  // while kRunning

  uint32_t num_tokens() const { return static_cast<uint32_t>(token_ids.size()); }
  uint32_t num_generated() const { return num_tokens() - num_prompt_tokens; }
  // Length at which it ends. The last token is never fed back: its position needs no row.
  uint32_t max_num_tokens() const { return num_prompt_tokens + spec.max_tokens; }
};

}  // namespace beryl::scheduler
