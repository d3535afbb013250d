// The loads that the published model must hold on one GPU of 80 GB, by counting pages: what the
// worker plans there (worker/service, MemoryPlanTest), served by this scheduler.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

#include "tests/coordinator/scheduler/step_driver.h"

namespace beryl::scheduler::sim {
namespace {

// 22.9 GB beside the weights, of a card that reports 84.9 GB.
GroupFacts full_size_facts() {
  return {.num_ranks = 1,
          .max_model_len = 262'144,
          .sliding_window = 1'024,
          .block_size = 16,
          .num_pages = 7'000,
          .global_blocks_per_page = 16,
          .max_num_seqs = 256,
          .max_num_batched_tokens = 8'192};
}

struct Load {
  uint32_t concurrency = 0;
  uint32_t num_requests = 0;
  uint32_t prompt = 0;
  uint32_t output = 0;
};

struct Seen {
  size_t most_decoding = 0;  // rows of the fullest step that only decodes
  uint64_t num_preemptions = 0;
};

Seen serve(const Load& load) {
  SchedulerConfig config;
  config.max_queued_tokens = 10'000'000;
  config.target_itl_us = 1'000'000'000;
  StepDriver driver(full_size_facts(), config);
  Seen seen;
  RequestId next = 1;
  uint32_t num_live = 0;
  uint32_t num_ended = 0;
  while (num_ended < load.num_requests && driver.error.empty()) {
    while (num_live < load.concurrency && next <= load.num_requests) {
      EXPECT_TRUE(driver.scheduler.add(make_request(next++, load.prompt, load.output)));
      ++num_live;
    }
    while (const auto plan = driver.plan()) {
      if (plan->mode != StepMode::kPadded) continue;
      seen.most_decoding = std::max(seen.most_decoding, plan->ranks[0].rows.size());
    }
    if (!driver.complete()) break;
    for (const SchedulerEvent& event : driver.scheduler.take_events()) {
      if (!event.finished) continue;
      EXPECT_EQ(event.reason, FinishReason::kLength);
      ++num_ended;
      --num_live;
    }
  }
  EXPECT_EQ(driver.error, "");
  EXPECT_EQ(num_ended, load.num_requests);
  seen.num_preemptions = driver.scheduler.stats().num_preemptions;
  return seen;
}

TEST(FullSizeLoadTest, AHundredChatsAtOnceAreNotPreempted) {
  const Seen seen = serve({.concurrency = 100, .num_requests = 300, .prompt = 512, .output = 512});
  EXPECT_EQ(seen.num_preemptions, 0U);
  EXPECT_GE(seen.most_decoding, 95U);
}

TEST(FullSizeLoadTest, LongRequestsDecodeTogether) {
  const Seen medium =
      serve({.concurrency = 40, .num_requests = 40, .prompt = 16'000, .output = 384});
  EXPECT_EQ(medium.num_preemptions, 0U);
  EXPECT_EQ(medium.most_decoding, 40U);
  const Seen large = serve({.concurrency = 8, .num_requests = 8, .prompt = 139'600, .output = 400});
  EXPECT_EQ(large.num_preemptions, 0U);
  EXPECT_EQ(large.most_decoding, 8U);
}

}  // namespace
}  // namespace beryl::scheduler::sim
