// Prompts with pictures: whole spans, features where their rows run, encoding spread over ranks.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "coordinator/scheduler/vision_cost.h"
#include "tests/coordinator/scheduler/scenario.h"
#include "tests/coordinator/scheduler/step_driver.h"

namespace beryl::scheduler::sim {
namespace {

constexpr uint32_t kPatches = 2'520;

GroupFacts picture_facts(uint32_t num_ranks) {
  GroupFacts facts = small_facts();
  facts.num_ranks = num_ranks;
  facts.num_feature_tokens = 80;
  facts.max_picture_patches = 10'000;
  return facts;
}

// Pictures of `num_tokens` soft tokens with these names, one after the other from `start`.
NewRequest with_pictures(NewRequest request, uint32_t start, uint32_t num_tokens,
                         const std::vector<uint64_t>& names) {
  for (const uint64_t name : names) {
    request.pictures.push_back(
        {.key = {name, name}, .start = start, .num_tokens = num_tokens, .num_patches = kPatches});
    start += num_tokens;
  }
  return request;
}

TEST(PictureTest, ASpanIsNeverCutEvenBeyondTheSoftLimit) {
  SchedulerConfig config;
  config.target_itl_us = 1;  // 16 prompt tokens a step, once somebody decodes
  StepDriver driver(picture_facts(1), config);
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 50)));
  driver.plan();
  driver.complete(1'000'000);
  driver.plan();
  // Text up to 10, a span up to 50, text.
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(2, 60, 4), 10, 40, {7})));
  driver.complete(1'000'000);
  std::vector<uint32_t> counts;
  for (int step = 0; step < 4; ++step) {
    const auto plan = driver.plan();
    ASSERT_TRUE(plan);
    for (const PlannedRow& row : plan->ranks[0].rows) {
      if (row.request == 2) counts.push_back(row.count);
    }
    driver.complete(1'000'000);
  }
  EXPECT_THAT(counts, testing::ElementsAre(10, 40, 10, 1));
  driver.run_all();
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, FourPicturesOfAPromptAreEncodedByFourRanksInOneStep) {
  StepDriver driver(picture_facts(4));
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(1, 64, 4), 0, 16, {1, 2, 3, 4})));
  const auto plan = driver.plan();
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->feature_jobs.size(), 4U);
  std::set<uint32_t> sources;
  for (const FeatureJob& job : plan->feature_jobs) sources.insert(job.source);
  EXPECT_EQ(sources.size(), 4U);
  EXPECT_EQ(plan->mode, StepMode::kExact);
  driver.run_all();
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, LooksAheadOnRanksThatEncodeNothing) {
  SchedulerConfig config;
  config.target_itl_us = 1;
  StepDriver driver(picture_facts(4), config);
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 50)));
  driver.plan();
  driver.complete(1'000'000);
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(2, 80, 4), 0, 16, {1, 2, 3, 4, 5})));
  // Rows of one picture fit; three more are encoded meanwhile, the fifth a step later.
  const auto first = driver.plan();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->feature_jobs.size(), 4U);
  driver.complete(1'000'000);
  const auto second = driver.plan();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->feature_jobs.size(), 1U);
  driver.run_all();
  EXPECT_EQ(driver.error, "");
  EXPECT_EQ(driver.scheduler.stats().feature_misses, 5U);
}

TEST(PictureTest, BoundsEncodingWhileSomebodyDecodes) {
  StepDriver driver(picture_facts(1));
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 50)));
  driver.plan();
  driver.complete();
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(2, 48, 4), 0, 16, {1, 2, 3})));
  for (int picture = 0; picture < 3; ++picture) {
    const auto plan = driver.plan();
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->feature_jobs.size(), 1U);
    driver.complete();
  }
  EXPECT_EQ(driver.scheduler.stats().encoded_patches, 3 * kPatches);
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, EqualPicturesAreEncodedOnceWhileKept) {
  StepDriver driver(picture_facts(2));
  for (RequestId id = 1; id <= 4; ++id) {
    ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(id, 20, 4), 2, 16, {9})));
  }
  const auto plan = driver.plan();
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->feature_jobs.size(), 2U);
  EXPECT_TRUE(plan->feature_jobs[0].encode);
  EXPECT_FALSE(plan->feature_jobs[1].encode);
  EXPECT_EQ(plan->feature_jobs[1].source, plan->feature_jobs[0].destination);
  driver.run_all();
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(5, 20, 4), 2, 16, {9})));
  driver.run_all();
  const SchedulerStats stats = driver.scheduler.stats();
  EXPECT_EQ(stats.feature_misses, 1U);
  EXPECT_EQ(stats.feature_moves, 1U);
  EXPECT_EQ(stats.feature_hits, 3U);
  EXPECT_EQ(stats.feature_tokens_used, 32U);
  EXPECT_EQ(stats.feature_tokens_total, 160U);
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, DropsTheLeastRecentlyUsedFeatures) {
  GroupFacts facts = picture_facts(1);
  facts.num_feature_tokens = 32;
  StepDriver driver(facts);
  RequestId id = 0;
  const auto ask = [&](uint64_t name) {
    EXPECT_TRUE(driver.scheduler.add(with_pictures(make_request(++id, 20, 2), 0, 16, {name})));
    driver.run_all();
    return driver.scheduler.stats().feature_misses;
  };
  EXPECT_EQ(ask(1), 1U);
  EXPECT_EQ(ask(2), 2U);
  EXPECT_EQ(ask(1), 2U);
  EXPECT_EQ(ask(3), 3U);  // in place of 2
  EXPECT_EQ(ask(1), 3U);
  EXPECT_EQ(ask(2), 4U);
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, PromptsWithMorePicturesThanARankKeepsAreServed) {
  GroupFacts facts = picture_facts(1);
  facts.num_feature_tokens = 16;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 3; ++id) {
    ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(id, 64, 4), 0, 16, {id, 2, 3, 4})));
  }
  const auto events = driver.run_all();
  for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(end_of(events, id), FinishReason::kLength);
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, DecodingMakesWayForASpanThatFillsTheStep) {
  GroupFacts facts = picture_facts(1);
  facts.max_num_batched_tokens = 16;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 4; ++id) ASSERT_TRUE(driver.scheduler.add(make_request(id, 4, 60)));
  driver.plan();
  driver.complete();
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(5, 32, 4), 0, 16, {1, 2})));
  std::vector<uint32_t> num_rows;
  for (int step = 0; step < 4; ++step) {
    const auto plan = driver.plan();
    ASSERT_TRUE(plan);
    num_rows.push_back(static_cast<uint32_t>(plan->ranks[0].rows.size()));
    driver.complete();
  }
  EXPECT_THAT(num_rows, testing::ElementsAre(4, 1, 4, 1)) << "and goes on between two spans";
  const auto events = driver.run_all();
  EXPECT_EQ(end_of(events, 5), FinishReason::kLength);
  EXPECT_EQ(driver.error, "");
}

TEST(PictureTest, ALostEpochEncodesAgain) {
  StepDriver driver(picture_facts(2));
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(1, 20, 9), 2, 16, {9})));
  driver.plan();
  driver.complete();
  driver.start_epoch(picture_facts(2));
  const auto plan = driver.plan();
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->feature_jobs.size(), 1U);
  driver.scheduler.end_epoch();
  EXPECT_EQ(driver.scheduler.stats().feature_tokens_used, 0U);
  std::vector<MovedRequest> moved = driver.scheduler.take_requests();
  ASSERT_EQ(moved.size(), 1U);
  EXPECT_EQ(moved[0].spec.pictures.size(), 1U);
  StepDriver other(picture_facts(1));
  ASSERT_TRUE(other.scheduler.add_moved(std::move(moved[0])));
  EXPECT_EQ(end_of(other.run_all(), 1), FinishReason::kLength);
  EXPECT_EQ(other.error, "");
}

TEST(PictureTest, RefusesPicturesThatCanNeverFit) {
  const auto refusal = [](const GroupFacts& facts, const NewRequest& request) {
    StepDriver driver(facts);
    const base::Status added = driver.scheduler.add(request);
    EXPECT_FALSE(added);
    if (added) return std::string();
    EXPECT_EQ(added.error().code, base::ErrorCode::kInvalidArgument);
    EXPECT_EQ(added.error().param, "prompt");
    return added.error().message;
  };
  using testing::HasSubstr;
  const GroupFacts facts = picture_facts(1);
  const NewRequest one = with_pictures(make_request(1, 90, 4), 0, 30, {1});
  EXPECT_TRUE(StepDriver(facts).scheduler.add(one));
  EXPECT_THAT(refusal(small_facts(), one), HasSubstr("takes no pictures"));
  const NewRequest large = with_pictures(make_request(1, 90, 4), 0, 65, {1});
  EXPECT_THAT(refusal(facts, large), HasSubstr("one of 64 tokens would fit"));
  GroupFacts tight = facts;
  tight.num_feature_tokens = 29;
  EXPECT_THAT(refusal(tight, one), HasSubstr("one of 29 tokens would fit"));
  tight = facts;
  tight.max_picture_patches = kPatches - 1;
  EXPECT_THAT(refusal(tight, one), HasSubstr("one of 2519 patches would fit"));
  tight = facts;
  // 90 positions are 23 global blocks; the last 30, a span, and 15 of window touch 12 sliding ones.
  const NewRequest late = with_pictures(make_request(1, 90, 4), 60, 30, {1});
  tight.num_pages = 23 + 12;
  EXPECT_TRUE(StepDriver(tight).scheduler.add(late));
  tight.num_pages = 23 + 11;
  EXPECT_THAT(refusal(tight, late), HasSubstr("need 35 pages"));
  EXPECT_THAT(refusal(facts, with_pictures(make_request(1, 90, 4), 70, 30, {1})),
              HasSubstr("out of place"));
  NewRequest overlapping = with_pictures(make_request(1, 90, 4), 0, 30, {1, 2});
  overlapping.pictures[1].start = 29;
  EXPECT_THAT(refusal(facts, overlapping), HasSubstr("out of place"));
}

TEST(PictureTest, ASmallerGroupFailsPicturesItCannotHold) {
  StepDriver driver(picture_facts(1));
  ASSERT_TRUE(driver.scheduler.add(with_pictures(make_request(1, 60, 4), 0, 40, {1})));
  driver.scheduler.end_epoch();
  GroupFacts facts = picture_facts(1);
  facts.num_feature_tokens = 39;
  ASSERT_TRUE(driver.start_epoch(facts));
  EXPECT_EQ(end_of(driver.run_all(), 1), FinishReason::kError);
}

TEST(PictureTest, CostFollowsThePublishedTower) {
  // 264 soft tokens of 9 patches: about 3.3 TFLOP.
  EXPECT_NEAR(static_cast<double>(encode_flop(264 * 9)), 3.3e12, 0.05e12);
  const double attention = static_cast<double>(kPatchPairFlop * kPatches);
  EXPECT_NEAR(attention / static_cast<double>(kPatchFlop), 0.29, 0.01);
}

// Many pictures of very different sizes among text.
TEST(PictureTest, EncodingIsBalancedUnderAMixedLoad) {
  constexpr uint32_t kNumRanks = 8;
  Scenario scenario;
  scenario.longest_span = 12;
  scenario.facts = picture_facts(kNumRanks);
  scenario.facts.max_num_seqs = 256;
  scenario.facts.max_num_batched_tokens = 1'024;
  scenario.facts.num_pages = 20'000;
  scenario.facts.num_feature_tokens = 2'000;
  scenario.facts.max_picture_patches = 2'520;
  SchedulerConfig config;
  config.max_queued_requests = 10'000;
  config.max_encode_patches_per_step = 40'320;
  config.target_itl_us = 100'000'000;
  StepDriver driver(scenario.facts, config);
  Random random(5);
  RequestId id = 0;
  double sum_of_max = 0;
  double sum_of_all = 0;
  for (int round = 0; round < 100; ++round) {
    for (int arrival = 0; arrival < 64; ++arrival) {
      NewRequest request = make_request(++id, static_cast<uint32_t>(draw(random, 50, 60)),
                                        static_cast<uint32_t>(draw(random, 1, 20)));
      const uint64_t num_pictures = chance(random, 0.6) ? draw(random, 1, 4) : 0;
      for (uint32_t idx = 0; idx < num_pictures; ++idx) {
        request.pictures.push_back(picture_of(4 * id + idx, scenario));
        request.pictures.back().start = idx * scenario.longest_span;
      }
      ASSERT_TRUE(driver.scheduler.add(std::move(request)));
    }
    if (!driver.plan()) continue;
    for (const uint64_t flop : driver.group().last_encoded_flop()) {
      sum_of_all += static_cast<double>(flop);
    }
    sum_of_max += static_cast<double>(std::ranges::max(driver.group().last_encoded_flop()));
    driver.complete();
  }
  driver.run_all();
  ASSERT_EQ(driver.error, "");
  const std::vector<uint64_t>& flop = driver.group().encoded_flop();
  const double sum = static_cast<double>(std::accumulate(flop.begin(), flop.end(), uint64_t{0}));
  const double in_all = static_cast<double>(std::ranges::max(flop)) / (sum / kNumRanks);
  const double in_each_step = sum_of_max / (sum_of_all / kNumRanks);
  fmt::print("busiest rank over mean: {:.2f} in all, {:.2f} step by step\n", in_all, in_each_step);
  EXPECT_GT(driver.scheduler.stats().feature_misses, 4'000U);
  EXPECT_LT(in_all, 1.2);
  EXPECT_LT(in_each_step, 1.2) << "ranks run in lockstep: the busiest one of each step counts";
}

}  // namespace
}  // namespace beryl::scheduler::sim
