// What the scheduler refuses, and how requests end that nobody answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "coordinator/scheduler/scheduler.h"
#include "tests/coordinator/scheduler/step_driver.h"

namespace beryl::scheduler::sim {
namespace {

using base::ErrorCode;

TEST(SchedulerLimitsTest, RefusesBeforeAGroupIsKnown) {
  Scheduler scheduler({});
  EXPECT_EQ(scheduler.add(make_request(1, 4, 4)).error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(scheduler.plan(0));
  EXPECT_FALSE(scheduler.start_epoch(1, GroupFacts{}));
  GroupFacts absurd = small_facts();
  absurd.num_pages = UINT32_MAX;
  EXPECT_FALSE(scheduler.start_epoch(1, absurd));
  EXPECT_FALSE(scheduler.has_epoch());
}

TEST(SchedulerLimitsTest, RefusesWhatCanNeverFit) {
  StepDriver driver(small_facts());
  EXPECT_EQ(driver.scheduler.add(make_request(1, 0, 4)).error().param, "prompt");
  EXPECT_EQ(driver.scheduler.add(make_request(1, 4, 0)).error().param, "max_tokens");
  EXPECT_EQ(driver.scheduler.add(make_request(1, 100, 1)).error().param, "prompt");
  EXPECT_EQ(driver.scheduler.add(make_request(1, 50, 51)).error().param, "max_tokens");
  EXPECT_TRUE(driver.scheduler.add(make_request(1, 50, 50)));
}

TEST(SchedulerLimitsTest, RefusesWhenTheQueueIsFull) {
  SchedulerConfig config;
  config.max_queued_requests = 2;
  config.max_queued_tokens = 50;
  StepDriver driver(small_facts(), config);
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 30, 4)));
  const base::Status tokens = driver.scheduler.add(make_request(2, 30, 4));
  EXPECT_EQ(tokens.error().code, ErrorCode::kQueueFull);
  EXPECT_EQ(tokens.error().reason, "server_overloaded");
  ASSERT_TRUE(driver.scheduler.add(make_request(2, 4, 4)));
  EXPECT_EQ(driver.scheduler.add(make_request(3, 4, 4)).error().code, ErrorCode::kQueueFull);
  driver.run_all();
  EXPECT_TRUE(driver.scheduler.add(make_request(3, 30, 4)));
}

TEST(SchedulerLimitsTest, CancelsInEveryState) {
  GroupFacts facts = small_facts();
  facts.max_num_seqs = 1;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 3; ++id) ASSERT_TRUE(driver.scheduler.add(make_request(id, 4, 9)));
  ASSERT_TRUE(driver.plan());
  driver.scheduler.cancel(1);  // its row is in flight
  driver.scheduler.cancel(1);
  driver.scheduler.cancel(2);  // waits
  driver.scheduler.cancel(77);
  EXPECT_TRUE(driver.complete());
  driver.scheduler.end_epoch();
  driver.scheduler.cancel(3);  // between epochs
  const auto events = driver.scheduler.take_events();
  int num_ends = 0;
  for (const SchedulerEvent& event : events) num_ends += event.finished ? 1 : 0;
  EXPECT_EQ(num_ends, 3);
  for (RequestId id = 1; id <= 3; ++id) EXPECT_EQ(end_of(events, id), FinishReason::kAborted);
  EXPECT_TRUE(tokens_of(events, 1).empty());
}

TEST(SchedulerLimitsTest, ExpiresDeadlinesEvenWithoutAGroup) {
  StepDriver driver(small_facts());
  NewRequest request = make_request(1, 4, 9);
  request.deadline_us = 500;
  ASSERT_TRUE(driver.scheduler.add(std::move(request)));
  ASSERT_TRUE(driver.plan(10));
  driver.scheduler.end_epoch();
  EXPECT_EQ(driver.scheduler.next_deadline_us(), 500);
  driver.scheduler.plan(499);
  EXPECT_EQ(end_of(driver.scheduler.take_events(), 1), std::nullopt);
  driver.scheduler.plan(500);
  EXPECT_EQ(end_of(driver.scheduler.take_events(), 1), FinishReason::kDeadline);
  EXPECT_EQ(driver.scheduler.next_deadline_us(), 0);
}

TEST(SchedulerLimitsTest, ARequestThatLosesEveryEpochFails) {
  SchedulerConfig config;
  config.max_attempts = 3;
  StepDriver driver(small_facts(), config);
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 9)));
  for (int attempt = 1; attempt <= 3; ++attempt) {
    EXPECT_EQ(end_of(driver.scheduler.take_events(), 1), std::nullopt) << attempt;
    ASSERT_TRUE(driver.plan());
    driver.start_epoch(small_facts());
  }
  const auto events = driver.scheduler.take_events();
  ASSERT_EQ(end_of(events, 1), FinishReason::kError);
  EXPECT_THAT(events.back().error, testing::HasSubstr("lost 3 times"));
}

TEST(SchedulerLimitsTest, LossesWithProgressAreForgivenWithinReason) {
  SchedulerConfig config;
  config.max_attempts = 2;
  StepDriver driver(small_facts(), config);
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 90)));
  std::vector<SchedulerEvent> events;
  int num_losses = 0;
  while (!end_of(events, 1)) {
    ASSERT_TRUE(driver.plan());
    ASSERT_TRUE(driver.complete());
    ASSERT_TRUE(driver.plan());
    driver.start_epoch(small_facts());
    ++num_losses;
    for (SchedulerEvent& event : driver.scheduler.take_events()) events.push_back(event);
  }
  EXPECT_EQ(num_losses, 16);
  EXPECT_EQ(tokens_of(events, 1).size(), 16U) << "one a loss, none twice";
}

TEST(SchedulerLimitsTest, ASmallerGroupFailsWhatItCannotHold) {
  StepDriver driver(small_facts());
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 50, 9)));
  ASSERT_TRUE(driver.scheduler.add(make_request(2, 10, 9)));
  driver.scheduler.end_epoch();
  GroupFacts facts = small_facts();
  facts.num_pages = 12;
  ASSERT_TRUE(driver.start_epoch(facts));
  const auto events = driver.run_all();
  EXPECT_EQ(end_of(events, 1), FinishReason::kError);
  EXPECT_EQ(end_of(events, 2), FinishReason::kLength);
}

// What a broken rank could send. Each must be refused and change nothing.
TEST(SchedulerLimitsTest, RefusesResultsThatContradictThePlan) {
  GroupFacts facts = small_facts();
  facts.num_ranks = 2;
  StepDriver driver(facts);
  for (RequestId id = 1; id <= 4; ++id) ASSERT_TRUE(driver.scheduler.add(make_request(id, 4, 9)));
  ASSERT_TRUE(driver.plan());
  driver.scheduler.take_events();
  const RankResult good = driver.execute(0);
  ASSERT_EQ(good.outputs.size(), 2U);
  const std::vector<std::function<void(RankResult&)>> spoilers = {
      [](RankResult& result) { ++result.epoch; },
      [](RankResult& result) { ++result.step; },
      [](RankResult& result) { result.step = 0; },
      [](RankResult& result) { result.step = UINT64_MAX; },
      [](RankResult& result) { result.rank = 2; },
      [](RankResult& result) { result.rank = UINT32_MAX; },
      [](RankResult& result) { result.outputs.pop_back(); },
      [](RankResult& result) { result.outputs.clear(); },
      [](RankResult& result) { result.outputs[1] = result.outputs[0]; },
      [](RankResult& result) { result.outputs.push_back(result.outputs[0]); },
      [](RankResult& result) { result.outputs[0].handle = 7; },
      [](RankResult& result) { result.outputs[0].handle = UINT32_MAX; },
      [](RankResult& result) { result.outputs[1].tokens.clear(); },
      [](RankResult& result) { result.outputs[1].tokens.resize(2); },
      [](RankResult& result) { result.outputs[1].prompt_logprobs.resize(1); },
  };
  for (size_t idx = 0; idx < spoilers.size(); ++idx) {
    RankResult bad = good;
    spoilers[idx](bad);
    EXPECT_FALSE(driver.scheduler.on_result(bad)) << "spoiler " << idx;
    EXPECT_TRUE(driver.scheduler.take_events().empty()) << "spoiler " << idx;
  }
  EXPECT_TRUE(driver.scheduler.on_result(good));
  EXPECT_EQ(driver.scheduler.take_events().size(), 2U);
  EXPECT_FALSE(driver.scheduler.on_result(good)) << "said twice";
}

TEST(SchedulerLimitsTest, IgnoresLateResultsOfOldEpochs) {
  StepDriver driver(small_facts());
  ASSERT_TRUE(driver.scheduler.add(make_request(1, 4, 9)));
  ASSERT_TRUE(driver.plan());
  const RankResult late = driver.execute();
  driver.scheduler.end_epoch();
  EXPECT_TRUE(driver.scheduler.on_result(late));
  driver.start_epoch(small_facts());
  EXPECT_TRUE(driver.scheduler.on_result(late));
  EXPECT_TRUE(tokens_of(driver.scheduler.take_events(), 1).empty());
  EXPECT_EQ(tokens_of(driver.run_all(), 1).size(), 9U);
  EXPECT_FALSE(driver.scheduler.start_epoch(1, small_facts())) << "epochs only grow";
  EXPECT_TRUE(driver.scheduler.has_epoch());
}

}  // namespace
}  // namespace beryl::scheduler::sim
