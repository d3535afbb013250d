#include "worker/engine/step_executor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "tests/worker/engine/executor_fixture.h"

namespace beryl::engine {
namespace {

TEST_F(StepExecutorTest, PrefillsThenDecodesItsOwnTokens) {
  const auto first = start_request(1);
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->step(), 1U);
  ASSERT_EQ(first->outputs_size(), 1);
  EXPECT_EQ(first->outputs(0).handle(), 1U);
  EXPECT_EQ(first->outputs(0).position(), 5U);
  EXPECT_EQ(first->outputs(0).tokens(0).token_id(), 25U);
  ASSERT_EQ(forward_.rows.size(), 5U);
  EXPECT_EQ(forward_.rows[4].token_id, 24);
  EXPECT_EQ(forward_.rows[4].request_seed, 1001U);
  EXPECT_EQ(forward_.rank_rows, (std::vector<int32_t>{3, 5}));

  const auto second = decode(1, 5);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(forward_.rows[0].token_id, 25);
  EXPECT_EQ(forward_.rows[0].position, 5);
  EXPECT_EQ(second->outputs(0).tokens(0).token_id(), 26U);
}

TEST_F(StepExecutorTest, ARankWithoutRowsStillRuns) {
  const auto result = run(plan());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outputs_size(), 0);
  EXPECT_EQ(forward_.num_calls, 1);
  EXPECT_EQ(forward_.rank_rows, (std::vector<int32_t>{3, 0}));
}

TEST_F(StepExecutorTest, ChunkedPrefillSaysNothingUntilItSamples) {
  wire::StepPlan first = plan();
  admit(first, 0, {20, 21, 22, 23, 24, 25}, 6);
  give_blocks(add_row(first, 0, 0, 4, false), {0}, {0});
  const auto nothing = run(first);
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->outputs_size(), 0);
  wire::StepPlan second = plan();
  give_blocks(add_row(second, 0, 4, 2, true), {7}, {7});
  const auto token = run(second);
  ASSERT_TRUE(token);
  EXPECT_EQ(token->outputs(0).tokens(0).token_id(), 26U);
  EXPECT_EQ(forward_.global[0].block_ids, (std::vector<int32_t>{0, 7}));
}

TEST_F(StepExecutorTest, SlidingTablesStartWhereTheWindowReaches) {
  wire::StepPlan first = plan();
  std::vector<uint32_t> prompt(16, 20);
  admit(first, 0, prompt, 16);
  give_blocks(add_row(first, 0, 0, 15, false), {0, 1, 2, 3}, {0, 1, 2, 3});
  ASSERT_TRUE(run(first));
  EXPECT_EQ(forward_.sliding[0].first_block, 0);
  EXPECT_EQ(forward_.sliding[0].block_ids.size(), 4U);
  wire::StepPlan second = plan();
  add_row(second, 0, 15, 1, true);
  ASSERT_TRUE(run(second));
  // Window 8: position 15 sees 8 .. 15, blocks 2 and 3.
  EXPECT_EQ(forward_.sliding[0].first_block, 2);
  EXPECT_EQ(forward_.sliding[0].block_ids, (std::vector<int32_t>{18, 19}));
  EXPECT_EQ(forward_.global[0].first_block, 0);
  EXPECT_EQ(forward_.global[0].block_ids.size(), 4U);
}

TEST_F(StepExecutorTest, BlocksThatTheWindowLeftMayBeUsedAgain) {
  wire::StepPlan first = plan();
  admit(first, 0, std::vector<uint32_t>(16, 20), 16);
  give_blocks(add_row(first, 0, 0, 16, true), {0, 1, 2, 3}, {0, 1, 2, 3});
  ASSERT_TRUE(run(first));
  wire::StepPlan second = plan();
  admit(second, 1, {20}, 1);
  give_blocks(add_row(second, 1, 0, 1, true), {4}, {1});
  const auto reused = run(second);
  EXPECT_TRUE(reused) << reused.error().message;
  wire::StepPlan third = plan();
  admit(third, 2, {20}, 1);
  give_blocks(add_row(third, 2, 0, 1, true), {5}, {3});  // still in the window of request 0
  const auto stolen = run(third);
  ASSERT_FALSE(stolen);
  EXPECT_EQ(stolen.error().message, "page 19 has two owners");
}

// Pages of several global blocks, by which kind took them first.
TEST_F(StepExecutorTest, APageHoldsOneKindOfOneRequest) {
  wire::GroupLimits limits = test_limits();
  limits.cache.set_global_blocks_per_page(2);
  const auto error_of = [&](const std::function<void(wire::StepPlan&)>& change) {
    TableForward forward(kVocabSize);
    StepExecutor executor(forward, *ops_, limits, 1);
    wire::StepPlan plan;
    plan.set_epoch(limits.epoch);
    plan.set_placement_version(1);
    plan.set_mode(wire::STEP_MODE_EXACT);
    plan.set_step(1);
    admit(plan, 1, std::vector<uint32_t>(16, 20), 16);
    wire::Row& row = add_row(plan, 1, 0, 16, true);
    for (const uint32_t block : {4, 5, 8, 9}) row.add_new_global_blocks(block);  // pages 2 and 4
    for (const uint32_t page : {3, 5, 6, 7}) row.add_new_sliding_blocks(page);
    change(plan);
    uint32_t num_rows = 0;
    for (const wire::Row& each : plan.rows()) num_rows += each.count();
    plan.add_rank_rows(3);
    plan.add_rank_rows(num_rows);
    const auto result = executor.execute(plan);
    return result ? std::string() : result.error().message;
  };
  const auto other = [](wire::StepPlan& plan, uint32_t global_block, uint32_t page) {
    admit(plan, 0, {1}, 1);
    wire::Row& row = add_row(plan, 0, 0, 1, true);
    row.add_new_global_blocks(global_block);
    row.add_new_sliding_blocks(page);
  };
  EXPECT_EQ(error_of([&](auto& plan) { other(plan, 16, 9); }), "");
  EXPECT_EQ(error_of([&](auto& plan) { other(plan, 10, 9); }), "page 5 has two owners");
  EXPECT_EQ(error_of([&](auto& plan) { other(plan, 16, 4); }), "page 4 has two owners");
  EXPECT_EQ(error_of([&](auto& plan) { other(plan, 5, 9); }), "page 2 has two owners");
  EXPECT_EQ(error_of([&](auto& plan) { other(plan, 17, 9); }), "global block 17 where 16 follows");
  EXPECT_EQ(error_of([&](auto& plan) { other(plan, 16, 8); }), "page 8 has two owners");
  EXPECT_EQ(error_of([&](auto& plan) { plan.mutable_rows(0)->set_new_global_blocks(1, 6); }),
            "global block 6 where 5 follows");
}

TEST_F(StepExecutorTest, ReleasedHandlesAndBlocksReturn) {
  ASSERT_TRUE(start_request(1));
  wire::StepPlan next = plan();
  next.add_releases(1);
  admit(next, 1, {30}, 1);
  give_blocks(add_row(next, 1, 0, 1, true), {2}, {2});
  const auto result = run(next);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->outputs(0).tokens(0).token_id(), 31U);
  EXPECT_EQ(executor_.num_requests(), 1U);
}

TEST_F(StepExecutorTest, RefusesPlansThatContradictItsState) {
  ASSERT_TRUE(start_request(1));
  const std::vector<std::pair<const char*, std::function<void(wire::StepPlan&)>>> damages = {
      {"unknown handle", [](auto& p) { add_row(p, 0, 0, 1, true); }},
      {"gap", [](auto& p) { add_row(p, 1, 6, 1, true); }},
      {"computed already", [](auto& p) { add_row(p, 1, 4, 1, true); }},
      {"beyond what is known", [](auto& p) { add_row(p, 1, 5, 2, true); }},
      {"beyond its blocks",
       [](auto& p) {
         p.add_releases(1), admit(p, 1, {1, 2, 3, 4, 5}, 5),
             give_blocks(add_row(p, 1, 0, 5, true), {2, 3}, {2});
       }},
      {"two rows", [](auto& p) { add_row(p, 1, 5, 1, true), add_row(p, 1, 5, 1, true); }},
      {"taken handle", [](auto& p) { admit(p, 1, {1}, 1); }},
      {"free handle", [](auto& p) { p.add_releases(3); }},
      {"released twice", [](auto& p) { p.add_releases(1), p.add_releases(1); }},
      {"block of another",
       [](auto& p) { admit(p, 0, {1}, 1), give_blocks(add_row(p, 0, 0, 1, true), {2}, {8}); }},
      {"block twice",
       [](auto& p) {
         admit(p, 0, {1}, 1), give_blocks(add_row(p, 0, 0, 1, true), {8, 8}, {8});
       }},
      {"samples in the prompt",
       [](auto& p) {
         admit(p, 0, {1, 2}, 2), give_blocks(add_row(p, 0, 0, 1, true), {8}, {8});
       }},
      {"step", [](auto& p) { p.set_step(p.step() + 1); }},
      {"epoch", [](auto& p) { p.set_epoch(6); }},
  };
  for (const auto& [name, damage] : damages) {
    TableForward forward(kVocabSize);
    StepExecutor executor(forward, *ops_, test_limits(), 1);
    wire::StepPlan first = plan();
    first.set_step(1);
    admit(first, 1, {20, 21, 22, 23, 24}, 5);
    give_blocks(add_row(first, 1, 0, 5, true), {2, 3}, {2, 3});
    first.add_rank_rows(0);
    first.add_rank_rows(5);
    ASSERT_TRUE(executor.execute(first));
    wire::StepPlan second = plan();
    second.set_step(2);
    damage(second);
    uint32_t num_rows = 0;
    for (const wire::Row& row : second.rows()) num_rows += row.count();
    second.add_rank_rows(0);
    second.add_rank_rows(num_rows);
    EXPECT_FALSE(executor.execute(second)) << name;
    EXPECT_EQ(forward.num_calls, 1) << name;
  }
}

TEST_F(StepExecutorTest, ANaNFailsItsRequestAndNoOther) {
  forward_.logit = [](const TableForward::Row& row, int id) {
    if (row.request_seed == 1001 && row.position == 5) {
      return std::numeric_limits<float>::quiet_NaN();
    }
    return id == 30 ? 1.0F : 0.0F;
  };
  ASSERT_TRUE(start_request(1));
  ASSERT_TRUE(start_request(2));
  wire::StepPlan both = plan();
  add_row(both, 1, 5, 1, true);
  add_row(both, 2, 5, 1, true);
  const auto result = run(both);
  ASSERT_TRUE(result);
  ASSERT_EQ(result->outputs_size(), 2);
  EXPECT_FALSE(result->outputs(0).error().empty());
  EXPECT_EQ(result->outputs(0).tokens_size(), 0);
  EXPECT_EQ(result->outputs(1).tokens(0).token_id(), 30U);
  // Planned before the coordinator knew.
  wire::StepPlan late = plan();
  add_row(late, 1, 6, 1, true);
  add_row(late, 2, 6, 1, true);
  const auto again = run(late);
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_FALSE(again->outputs(0).error().empty());
  EXPECT_EQ(again->outputs(1).tokens(0).token_id(), 30U);
}

TEST_F(StepExecutorTest, ForbiddenIdsAreNeverDrawn) {
  forward_.logit = [](const TableForward::Row&, int id) {
    return id == static_cast<int>(kForbiddenId) ? 50.0F : (id == 7 ? 1.0F : 0.0F);
  };
  const auto result = start_request(1, [](auto& sampling) {
    sampling.add_allowed_token_ids(kForbiddenId);
    sampling.add_allowed_token_ids(7);
    sampling.add_allowed_token_ids(8);
  });
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outputs(0).tokens(0).token_id(), 7U);
}

TEST_F(StepExecutorTest, NoAllowedTokenIsAnErrorOfTheRequest) {
  const auto result =
      start_request(1, [](auto& sampling) { sampling.add_allowed_token_ids(kForbiddenId); });
  ASSERT_TRUE(result);
  EXPECT_EQ(result->outputs(0).error(), "no token is left that the request allows");
}

TEST_F(StepExecutorTest, StopIdsAreForbiddenBeforeMinTokens) {
  forward_.logit = [](const TableForward::Row&, int id) {
    return id == 1 ? 5.0F : (id == 2 ? 4.0F : 0.0F);
  };
  ASSERT_TRUE(start_request(1, [](auto& sampling) {
    sampling.set_min_tokens(2);
    sampling.add_stop_token_ids(1);
  }));
  EXPECT_EQ(decode(1, 5)->outputs(0).tokens(0).token_id(), 2U);
  EXPECT_EQ(decode(1, 6)->outputs(0).tokens(0).token_id(), 1U);
}

TEST_F(StepExecutorTest, PenaltiesCountThePromptAndWhatWasGeneratedBefore) {
  forward_.logit = [](const TableForward::Row&, int id) {
    return id == 30 ? 3.0F : (id == 31 ? 2.5F : 0.0F);
  };
  // As after a preemption: 30 was generated twice already.
  wire::StepPlan first = plan();
  wire::Admission& admission = admit(first, 0, {20, 30, 30}, 1);
  admission.mutable_sampling()->set_frequency_penalty(0.4F);
  give_blocks(add_row(first, 0, 0, 3, true), {0}, {0});
  EXPECT_EQ(run(first)->outputs(0).tokens(0).token_id(), 31U);  // 3 - 0.8 < 2.5

  wire::StepPlan second = plan();
  wire::Admission& repeated = admit(second, 1, {30}, 1);
  repeated.mutable_sampling()->set_repetition_penalty(2);
  give_blocks(add_row(second, 1, 0, 1, true), {1}, {1});
  EXPECT_EQ(run(second)->outputs(0).tokens(0).token_id(), 31U);  // 3 / 2 < 2.5
}

TEST_F(StepExecutorTest, LogitBiasAndLogprobs) {
  const auto result = start_request(1, [](auto& sampling) {
    wire::LogitBias& bias = *sampling.add_logit_bias();
    bias.set_token_id(40);
    bias.set_bias(100);
    sampling.set_num_top_logprobs(2);
  });
  ASSERT_TRUE(result);
  const wire::Token& token = result->outputs(0).tokens(0);
  EXPECT_EQ(token.token_id(), 40U);
  EXPECT_NEAR(token.logprob(), 0, 1e-3);
  ASSERT_EQ(token.top_token_ids_size(), 2);
  EXPECT_EQ(token.top_token_ids(0), 40U);
}

TEST_F(StepExecutorTest, PromptLogprobsComeInPiecesWithoutTheFirstToken) {
  wire::StepPlan first = plan();
  admit(first, 0, {20, 21, 22, 9, 24, 25}, 6).mutable_sampling()->set_num_prompt_logprobs(1);
  give_blocks(add_row(first, 0, 0, 4, false), {0, 1}, {0, 1});
  const auto piece = run(first);
  ASSERT_TRUE(piece);
  ASSERT_EQ(piece->outputs_size(), 1);
  const wire::Output& output = piece->outputs(0);
  ASSERT_EQ(output.prompt_size(), 4);  // of positions 1 .. 4
  EXPECT_EQ(output.prompt(0).token_id(), 21U);
  // Logits fall by one a step from the favourite: log-softmax of the first is log(1 - 1/e).
  EXPECT_NEAR(output.prompt(0).logprob(), std::log(1 - std::exp(-1.0)), 1e-4);
  EXPECT_EQ(output.prompt(2).token_id(), 9U);
  EXPECT_EQ(output.prompt(2).top_token_ids(0), 23U);
  EXPECT_LT(output.prompt(2).logprob(), -30);
  wire::StepPlan second = plan();
  add_row(second, 0, 4, 2, true);
  const auto rest = run(second);
  ASSERT_EQ(rest->outputs(0).prompt_size(), 1);
  EXPECT_EQ(rest->outputs(0).prompt(0).token_id(), 25U);
  EXPECT_EQ(rest->outputs(0).tokens(0).token_id(), 26U);
}

TEST_F(StepExecutorTest, SampledTokensDependOnSeedChoiceAndPositionOnly) {
  forward_.logit = [](const TableForward::Row&, int) { return 0.0F; };
  const auto change = [](auto& sampling) {
    sampling.set_temperature(1);
    sampling.set_seed(42);
  };
  ASSERT_TRUE(start_request(1, change));
  const auto once = decode(1, 5);
  // Again on another handle, re-prefilled with the token that was drawn.
  wire::StepPlan replay = plan();
  const uint32_t first_token = static_cast<uint32_t>(forward_.rows[0].token_id);
  change(*admit(replay, 2, {20, 21, 22, 23, 24, first_token}, 5).mutable_sampling());
  give_blocks(add_row(replay, 2, 0, 6, true), {4, 5}, {4, 5});
  const auto again = run(replay);
  EXPECT_EQ(once->outputs(0).tokens(0).token_id(), again->outputs(0).tokens(0).token_id());
}

TEST_F(StepExecutorTest, ALostExchangeEndsTheStep) {
  forward_.result = base::Error{base::ErrorCode::kUnavailable, "rank 0 is gone", {}, {}};
  const auto result = run(plan());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "rank 0 is gone");
}

}  // namespace
}  // namespace beryl::engine
