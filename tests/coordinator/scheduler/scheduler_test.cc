#include "coordinator/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/coordinator/scheduler/scenario.h"
#include "tests/coordinator/scheduler/step_driver.h"

namespace beryl::scheduler::sim {
namespace {

using base::ErrorCode;

TEST(SchedulerTest, PlansAheadOfTheTokenBeingSampled) {
  StepDriver driver(small_facts());
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 10, 5)));
  const auto prefill = driver.plan();
  ASSERT_TRUE(prefill);
  EXPECT_EQ(prefill->mode, StepMode::kExact);
  EXPECT_EQ(prefill->bucket, 0U);
  ASSERT_EQ(prefill->ranks[0].rows.size(), 1U);
  EXPECT_TRUE(prefill->ranks[0].rows[0].sample);
  EXPECT_EQ(prefill->ranks[0].rows[0].new_global_blocks.size(), 3U);
  const auto decode = driver.plan();
  ASSERT_TRUE(decode);
  EXPECT_EQ(decode->mode, StepMode::kPadded);
  EXPECT_EQ(decode->bucket, 1U);
  EXPECT_EQ(decode->ranks[0].rows[0].start, 10U);
  EXPECT_FALSE(driver.plan()) << "two steps are in flight";
  const auto events = driver.run_all();
  EXPECT_EQ(tokens_of(events, 1).size(), 5U);
  EXPECT_EQ(end_of(events, 1), FinishReason::kLength);
  EXPECT_EQ(driver.error, "");
}

TEST(SchedulerTest, NeverPlansBeyondMaxTokens) {
  StepDriver driver(small_facts());
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 1)));
  ASSERT_TRUE(driver.plan());
  EXPECT_FALSE(driver.plan()) << "its only token is in flight";
  EXPECT_TRUE(driver.complete());
  EXPECT_FALSE(driver.plan());
}

TEST(SchedulerTest, DiscardsTheRowPlannedAfterAStop) {
  StepDriver driver(small_facts());
  NewRequest request = make_request(1, 4, 50);
  for (int32_t token = 0; token < kVocabSize; ++token) request.stop_token_ids.push_back(token);
  request.sampling.min_tokens = 0;
  ASSERT_TRUE(driver.scheduler.add(std::move(request)));
  ASSERT_TRUE(driver.plan());
  ASSERT_TRUE(driver.plan());
  const auto events = driver.run_all();
  EXPECT_EQ(tokens_of(events, 1).size(), 1U);
  EXPECT_EQ(end_of(events, 1), FinishReason::kStop);
  EXPECT_EQ(events.back().stop_token_id, tokens_of(events, 1)[0]);
  EXPECT_EQ(driver.scheduler.stats().tokens_generated, 1U);
  EXPECT_EQ(driver.scheduler.stats().pages_used, 0U);
}

TEST(SchedulerTest, AStopTokenBelowMinTokensIsOrdinary) {
  StepDriver driver(small_facts());
  NewRequest request = make_request(1, 4, 50);
  request.stop_token_ids = {7};
  request.sampling.min_tokens = 2;
  ASSERT_TRUE(driver.scheduler.add(std::move(request)));
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE(driver.plan());
    RankResult result = driver.execute();
    result.outputs[0].tokens[0].token_id = 7;  // a worker that does not mask
    ASSERT_TRUE(driver.scheduler.on_result(result));
  }
  const auto events = driver.scheduler.take_events();
  EXPECT_EQ(tokens_of(events, 1), (std::vector<int32_t>{7, 7, 7}));
  EXPECT_EQ(end_of(events, 1), FinishReason::kStop);
}

TEST(SchedulerTest, EveryRankHasAPartInEveryStep) {
  GroupFacts facts = small_facts();
  facts.num_ranks = 3;
  StepDriver driver(facts);
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 10, 5)));
  const auto plan = driver.plan();
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->ranks.size(), 3U);
  EXPECT_EQ(plan->ranks[1].num_rows + plan->ranks[2].num_rows, 0U);
}

TEST(SchedulerTest, SpreadsRequestsOverRanks) {
  GroupFacts facts = small_facts();
  facts.num_ranks = 4;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 8; ++id) ASSERT_TRUE(driver.scheduler.add(make_request(id, 10, 5)));
  const auto plan = driver.plan();
  ASSERT_TRUE(plan);
  for (const RankPlan& rank : plan->ranks) EXPECT_EQ(rank.rows.size(), 2U);
}

TEST(SchedulerTest, KeepsTheTargetWhileOthersDecode) {
  GroupFacts facts = small_facts();
  facts.max_model_len = 4'000;
  facts.max_num_batched_tokens = 1'000;
  facts.num_pages = 4'000;
  SchedulerConfig config;
  config.target_itl_us = 20'000;
  StepDriver driver(facts, config);
  const auto step_us = [](const StepPlan& plan) { return 4'000 + 100 * plan.ranks[0].num_rows; };
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 100, 300)));
  int64_t longest_us = 0;
  for (int step = 0; step < 300; ++step) {
    if (step % 20 == 10) {
      ASSERT_TRUE(driver.scheduler.add(make_request(100 + step, 1'500, 1)));
    }
    const auto plan = driver.plan();
    ASSERT_TRUE(plan);
    if (step > 30) longest_us = std::max<int64_t>(longest_us, step_us(*plan));
    ASSERT_TRUE(driver.complete(step_us(*plan)));
  }
  EXPECT_LE(longest_us, 21'000);
  EXPECT_GE(longest_us, 19'000) << "the room is used";
  EXPECT_EQ(driver.error, "");
}

TEST(SchedulerTest, PreemptsTheNewestAndContinuesWithTheSameText) {
  GroupFacts facts = small_facts();
  facts.num_pages = 24;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 3; ++id) ASSERT_TRUE(driver.scheduler.add(make_request(id, 8, 40)));
  const auto events = driver.run_all();
  EXPECT_GT(driver.scheduler.stats().num_preemptions, 0U);
  for (RequestId id = 1; id <= 3; ++id) {
    std::vector<int32_t> expected;
    int32_t previous = static_cast<int32_t>(id % 7);
    for (uint32_t idx = 0; idx < 40; ++idx) {
      previous = model_token(make_request(id, 8, 40).sampling, 8 + idx, previous, idx, {});
      expected.push_back(previous);
    }
    EXPECT_EQ(tokens_of(events, id), expected) << "request " << id;
  }
  // The oldest never makes room for younger ones.
  std::vector<RequestId> order;
  for (const SchedulerEvent& event : events) {
    if (event.finished) order.push_back(event.request);
  }
  EXPECT_EQ(order, (std::vector<RequestId>{1, 2, 3}));
  EXPECT_EQ(driver.error, "");
}

TEST(SchedulerTest, LowerPriorityValuesGoFirst) {
  GroupFacts facts = small_facts();
  facts.max_num_seqs = 1;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 3; ++id) {
    NewRequest request = make_request(id, 4, 2);
    request.priority = -static_cast<int32_t>(id);
    ASSERT_TRUE(driver.scheduler.add(std::move(request)));
  }
  std::vector<RequestId> order;
  for (const SchedulerEvent& event : driver.run_all()) {
    if (event.finished) order.push_back(event.request);
  }
  EXPECT_EQ(order, (std::vector<RequestId>{3, 2, 1}));
}

TEST(SchedulerTest, AnErrorOfOneRowEndsThatRequestOnly) {
  StepDriver driver(small_facts());
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 9)));
  ASSERT_TRUE(driver.scheduler.add(make_request(2, 4, 9)));
  ASSERT_TRUE(driver.plan());
  RankResult result = driver.execute();
  result.outputs[0].tokens.clear();
  result.outputs[0].error = "not a number in the logits";
  ASSERT_TRUE(driver.scheduler.on_result(result));
  const auto events = driver.scheduler.take_events();
  EXPECT_EQ(end_of(events, 1), FinishReason::kError);
  EXPECT_EQ(end_of(events, 2), std::nullopt);
  EXPECT_EQ(driver.scheduler.stats().num_running, 1U);
}

}  // namespace
}  // namespace beryl::scheduler::sim
