// How long planning takes with everything full: 64 ranks of 256 decoding requests.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>

#include "coordinator/scheduler/scheduler.h"

namespace beryl::scheduler {
namespace {

constexpr uint32_t kNumRanks = 64;
constexpr uint32_t kNumSeqs = 256;
constexpr uint32_t kNumWaiting = 10'000;
constexpr uint32_t kNumSteps = 200;

RankResult answer(const StepPlan& plan, uint32_t rank) {
  RankResult result{.epoch = plan.epoch, .step = plan.step, .rank = rank, .outputs = {}};
  result.duration_us = 20'000;
  for (const PlannedRow& row : plan.ranks[rank].rows) {
    if (!row.sample) continue;
    RowOutput& output = result.outputs.emplace_back();
    output.handle = row.handle;
    output.tokens.resize(1);
  }
  return result;
}

TEST(PlanningCostTest, IsFarBelowAMillisecondARank) {
  SchedulerConfig config;
  config.max_queued_requests = 100'000;
  config.max_queued_tokens = 1'000'000'000;
  Scheduler scheduler(config);
  const GroupFacts facts{.num_ranks = kNumRanks,
                         .max_model_len = 4'096,
                         .sliding_window = 1'024,
                         .block_size = 16,
                         .num_pages = 110'000,
                         .global_blocks_per_page = 16,
                         .max_num_seqs = kNumSeqs,
                         .max_num_batched_tokens = 8'192};
  ASSERT_TRUE(scheduler.start_epoch(1, facts));
  for (RequestId id = 1; id <= kNumRanks * kNumSeqs + kNumWaiting; ++id) {
    NewRequest request;
    request.id = id;
    request.prompt_token_ids.assign(32, 5);
    request.max_tokens = 2'000;
    ASSERT_TRUE(scheduler.add(std::move(request)));
  }
  using Clock = std::chrono::steady_clock;
  using Microseconds = std::chrono::duration<double, std::micro>;
  Microseconds plan_time{0};
  Microseconds result_time{0};
  for (uint32_t step = 0; step < kNumSteps; ++step) {
    const auto start = Clock::now();
    const auto plan = scheduler.plan(0);
    const Microseconds elapsed = Clock::now() - start;
    ASSERT_TRUE(plan);
    if (step == 0)
      fmt::print("admitting {} requests: {:.0f} us\n", kNumRanks * kNumSeqs, elapsed.count());
    if (step > 0) plan_time += elapsed;
    for (uint32_t rank = 0; rank < kNumRanks; ++rank) {
      const RankResult result = answer(*plan, rank);
      const auto before = Clock::now();
      ASSERT_TRUE(scheduler.on_result(result));
      result_time += Clock::now() - before;
    }
    scheduler.take_events();
  }
  EXPECT_EQ(scheduler.stats().num_running, kNumRanks * kNumSeqs);
  const double plan_us = plan_time.count() / (kNumSteps - 1) / kNumRanks;
  const double result_us = result_time.count() / kNumSteps / kNumRanks;
  fmt::print("a step of {} ranks x {} requests: plan {:.1f} us a rank, results {:.1f} us a rank\n",
             kNumRanks, kNumSeqs, plan_us, result_us);
  EXPECT_LT(plan_us, 500);
  EXPECT_LT(result_us, 500);
}

}  // namespace
}  // namespace beryl::scheduler
