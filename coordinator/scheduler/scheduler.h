// Scheduler of one group: continuous batching, chunked prefill, preemption, home-rank choice and
// KV block accounting. A pure step: no I/O, no threads, no clock inside, so that a simulator drives
// this same code from a seed. Not thread-safe; one owner calls it.
//
// Use: feed add / cancel / on_result as they come, then plan(now) until it returns nothing, then
// take_events().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "coordinator/scheduler/request.h"
#include "coordinator/scheduler/step_plan.h"
#include "parallel/base/expected.h"

namespace beryl::scheduler {

// Learnt from the workers' registration; equal on all ranks of a group.
struct GroupFacts {
  uint32_t num_ranks = 1;
  uint32_t max_model_len = 0;
  uint32_t sliding_window = 0;
  uint32_t block_size = 0;
  uint32_t num_pages = 0;  // of cache memory, per rank (cache_pages.h)
  uint32_t global_blocks_per_page = 1;
  uint32_t max_num_seqs = 0;            // per rank
  uint32_t max_num_batched_tokens = 0;  // per rank and step
  uint32_t num_feature_tokens = 0;   // soft tokens whose features a rank can keep; 0: no pictures
  uint32_t max_picture_patches = 0;  // of one picture
};

struct SchedulerConfig {
  uint32_t max_queued_requests = 1024;
  uint64_t max_queued_tokens = 4'000'000;
  uint32_t max_steps_in_flight = 2;  // step n + 1 is planned while n runs
  int64_t target_itl_us = 100'000;   // bounds the prompt tokens of a step
  // Patches that a rank encodes in one step while somebody decodes: one picture of 280 soft tokens
  // of 9 patches. A single picture may be larger.
  uint32_t max_encode_patches_per_step = 2'520;
  // … while nobody decodes: 16 such pictures, so that a step still ends within seconds.
  uint32_t max_encode_patches_alone = 40'320;
  // A request fails when this many epochs in a row were lost with it before it gained a token, or
  // eight times as many in all.
  uint32_t max_attempts = 4;
};

struct SchedulerStats {
  uint32_t num_waiting = 0;
  uint32_t num_running = 0;
  uint64_t queued_tokens = 0;
  uint64_t num_preemptions = 0;
  uint64_t tokens_generated = 0;
  uint64_t prompt_tokens_computed = 0;
  uint32_t pages_used = 0;  // of cache memory, all ranks
  uint32_t pages_total = 0;
  uint32_t steps_in_flight = 0;
  uint64_t encoded_patches = 0;
  // Spans by where their features came from: their rank kept them, they were encoded, or moved.
  uint64_t feature_hits = 0;
  uint64_t feature_misses = 0;
  uint64_t feature_moves = 0;
  uint32_t feature_tokens_used = 0;  // all ranks
  uint32_t feature_tokens_total = 0;
};

struct GroupState;

class Scheduler {
 public:
  explicit Scheduler(const SchedulerConfig& config);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // A group is there: nothing is on its ranks yet. Requests that were running wait again with the
  // tokens they have; those that a smaller group cannot hold fail. kInvalidArgument if the facts
  // cannot serve (zero or absurd sizes) or `epoch` is not above all before.
  base::Status start_epoch(uint64_t epoch, const GroupFacts& facts);
  // The group is gone; what its steps in flight would have said is lost. Requests wait.
  void end_epoch();
  bool has_epoch() const;

  // kQueueFull, or kInvalidArgument (param "max_tokens" or "prompt") for what can never fit,
  // pictures included. Works between epochs once facts are known (before: kUnavailable).
  base::Status add(NewRequest request);
  // Ends with kAborted. Unknown ids are ignored.
  void cancel(RequestId request);
  // Between epochs: all requests leave, without an event, to continue on another group.
  std::vector<MovedRequest> take_requests();
  // Continues after the tokens it has, outside the limits of the queue (it was accepted once).
  // kInvalidArgument if this group could not hold it, kUnavailable before facts are known.
  base::Status add_moved(MovedRequest moved);
  // Results of old epochs are ignored; a rank reports its steps in order. False: the result
  // contradicts what was planned (the rank is broken, the caller ends the epoch).
  bool on_result(const RankResult& result);

  // The next step, or nothing: no work, or max_steps_in_flight reached. Expires deadlines.
  std::optional<StepPlan> plan(int64_t now_us);
  std::vector<SchedulerEvent> take_events();

  SchedulerStats stats() const;
  // When plan() should be called again for a deadline even if nothing happens; 0 = never.
  int64_t next_deadline_us() const;

 private:
  friend struct SchedulerProbe;  // the simulator's: looks inside and plants faults
  std::unique_ptr<GroupState> state_;
};

}  // namespace beryl::scheduler
