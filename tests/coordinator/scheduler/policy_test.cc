// The parts that decide: cost model, chunk sizes, home rank, capacity, buckets.
#include <gtest/gtest.h>

#include "coordinator/scheduler/capacity.h"
#include "coordinator/scheduler/chunking.h"
#include "coordinator/scheduler/cost_model.h"
#include "coordinator/scheduler/home_rank.h"
#include "coordinator/scheduler/planner.h"

namespace beryl::scheduler {
namespace {

TEST(CostModelTest, FindsTheRowsThatFillTheTarget) {
  CostModel cost;
  for (uint32_t step = 0; step < 100; ++step) {
    const uint32_t num_rows = 1 + step * 7 % 64;
    cost.observe(num_rows, 2'000 + 50 * num_rows);
  }
  EXPECT_NEAR(cost.rows_within(12'000, 1'000), 200, 2);
  EXPECT_EQ(cost.rows_within(12'000, 64), 64U);
  EXPECT_EQ(cost.rows_within(1'000, 64), 0U);
}

TEST(CostModelTest, StartsCarefullyAndSurvivesEqualSteps) {
  CostModel cost;
  EXPECT_EQ(cost.rows_within(1'000'000, 10'000), 256U);
  // One decode step of 30 ms says no more than: a row costs 30 ms at most.
  cost.observe(1, 30'000);
  EXPECT_EQ(cost.rows_within(100'000, 10'000), 3U);
  for (int step = 0; step < 20; ++step) cost.observe(17, 30'000 + 16 * 500);
  EXPECT_NEAR(cost.rows_within(100'000, 10'000), 141, 3);
  for (int step = 0; step < 5'000; ++step) cost.observe(1, 30'000);
  EXPECT_NEAR(cost.rows_within(100'000, 10'000), 141, 3);
}

TEST(CostModelTest, IgnoresImpossibleDurations) {
  CostModel cost;
  for (int64_t duration_us : {int64_t{0}, int64_t{-5}, INT64_MAX, INT64_MIN}) {
    cost.observe(10, duration_us);
  }
  EXPECT_EQ(cost.rows_within(1, 10'000), 256U);
}

TEST(ChunkingTest, BoundsPromptsOnlyWhileSomebodyDecodes) {
  const GroupFacts facts{.max_num_batched_tokens = 512};
  SchedulerConfig config;
  config.target_itl_us = 10'000;
  CostModel cost;
  for (uint32_t rows = 1; rows < 100; ++rows) cost.observe(rows, 100 * rows);
  EXPECT_EQ(row_limit(config, facts, cost, /*is_decoding=*/false), 512U);
  EXPECT_NEAR(row_limit(config, facts, cost, /*is_decoding=*/true), 100, 2);
  EXPECT_EQ(prompt_limit(facts, 100, 20), 80U);
  // Prompts go on, however slow the steps are, and never beyond what a step may carry.
  EXPECT_EQ(prompt_limit(facts, 0, 20), kMinChunkTokens);
  EXPECT_EQ(prompt_limit(facts, 0, 510), 2U);
}

TEST(HomeRankTest, TakesTheLeastLoadedRankWithRoom) {
  constexpr uint32_t kNeed = 6;
  const RankOffer roomy{.is_open = true, .prompt_rows = 8, .promised = 0, .pages = 9};
  std::vector<RankOffer> offers(4, roomy);
  offers[0].tokens_queued = 100;
  offers[1].num_running = 2;
  offers[2].num_running = 1;
  offers[3].num_running = 1;
  offers[3].pages = 20;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 3U);
  offers[3].pages = 5;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 2U);
  offers[2].prompt_rows = 0;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 1U);
  offers[1].is_open = false;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 0U);
  offers[0].pages = 5;
  EXPECT_FALSE(choose_home_rank(offers, kNeed).has_value());
}

TEST(HomeRankTest, CountsVisionAndPrefersTheRankThatKeepsTheFeatures) {
  constexpr uint32_t kNeed = 6;
  const RankOffer roomy{.is_open = true, .prompt_rows = 8, .promised = 0, .pages = 9};
  std::vector<RankOffer> offers(3, roomy);
  offers[2].pages = 20;
  offers[1].feature_tokens_kept = 280;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 1U);
  offers[1].vision_tokens = 500;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 2U);
  offers[2].can_start = false;
  EXPECT_EQ(choose_home_rank(offers, kNeed), 0U);
}

TEST(CapacityTest, RefusesWhatCanNeverFit) {
  // 40 positions are 10 global blocks, of which 4 make a page; 16 positions touch 5 sliding blocks.
  const GroupFacts facts{.max_model_len = 100,
                         .sliding_window = 16,
                         .block_size = 4,
                         .num_pages = 3 + 5,
                         .global_blocks_per_page = 4};
  EXPECT_TRUE(check_fits_alone(facts, 48, 1));  // the last token is never fed back
  const auto param = [&](uint32_t num_prompt, uint32_t max_tokens) {
    return check_fits_alone(facts, num_prompt, max_tokens).error().param;
  };
  EXPECT_EQ(param(48, 2), "max_tokens");
  EXPECT_EQ(param(49, 1), "prompt");
  EXPECT_EQ(param(100, 1), "prompt");
  EXPECT_EQ(param(99, 2), "max_tokens");
  EXPECT_EQ(check_fits_alone(facts, 1, UINT32_MAX).error().reason, "context_length_exceeded");
  GroupFacts narrow = facts;
  narrow.num_pages = 5;
  EXPECT_FALSE(check_fits_alone(narrow, 30, 4));
  EXPECT_TRUE(check_fits_alone(narrow, 12, 4));
}

TEST(CapacityTest, CountsTheBlocksThatPagesGive) {
  for (const uint32_t per_page : {1U, 2U, 3U, 16U}) {
    const CachePages pages(per_page);
    for (uint32_t num_blocks = 0; num_blocks < 40; ++num_blocks) {
      for (uint32_t num_pages = 0; num_pages < 60; ++num_pages) {
        // A block takes a sliding page, and a global one where it is the first of its page.
        uint32_t left = num_pages;
        uint32_t expected = 0;
        while (true) {
          const uint32_t cost = (num_blocks + expected) % per_page == 0 ? 2 : 1;
          if (cost > left) break;
          left -= cost;
          ++expected;
        }
        ASSERT_EQ(pages.blocks_within(num_blocks, num_pages), expected)
            << per_page << " " << num_blocks << " " << num_pages;
      }
    }
  }
}

TEST(PlannerTest, BucketsArePowersOfTwoAndTheirMiddles) {
  EXPECT_EQ(bucket_of(0), 1U);
  EXPECT_EQ(bucket_of(1), 1U);
  EXPECT_EQ(bucket_of(3), 4U);
  EXPECT_EQ(bucket_of(9), 16U);
  EXPECT_EQ(bucket_of(17), 24U);
  EXPECT_EQ(bucket_of(25), 32U);
  EXPECT_EQ(bucket_of(33), 48U);
  EXPECT_EQ(bucket_of(49), 64U);
  EXPECT_EQ(bucket_of(200), 256U);
}

}  // namespace
}  // namespace beryl::scheduler
