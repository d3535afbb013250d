#include "coordinator/cluster/plan_codec.h"

#include <gtest/gtest.h>

#include "parallel/wire/mock_worker.h"
#include "parallel/wire/validate.h"

namespace beryl::cluster {
namespace {

scheduler::StepPlan sample_plan() {
  scheduler::StepPlan plan;
  plan.epoch = 4;
  plan.step = 9;
  plan.mode = scheduler::StepMode::kExact;
  plan.ranks.resize(2);
  scheduler::RankPlan& rank = plan.ranks[1];
  rank.releases = {3};
  scheduler::PlannedAdmission admission;
  admission.handle = 3;
  admission.request = 77;
  admission.sampling.temperature = 0.5F;
  admission.sampling.top_k = 64;
  admission.sampling.seed = 123;
  admission.sampling.choice = 2;
  admission.sampling.num_top_logprobs = 5;
  admission.sampling.min_tokens = 1;
  admission.sampling.logit_bias = {{5, -3.0F}};
  admission.sampling.allowed_token_ids = {5, 6};
  admission.stop_token_ids = {1};
  admission.token_ids = {2, 10, 11};
  admission.num_prompt_tokens = 2;
  admission.pictures = {{.key = {1, 2}, .start = 0, .num_tokens = 1, .num_patches = 9},
                        {.key = {3, 4}, .start = 1, .num_tokens = 1, .num_patches = 9}};
  rank.feature_drops = {{5, 6}};
  plan.feature_jobs = {
      {.key = {1, 2}, .num_tokens = 1, .source = 0, .destination = 1, .encode = true},
      {.key = {3, 4}, .num_tokens = 1, .source = 0, .destination = 1, .encode = false}};
  rank.admissions.push_back(admission);
  rank.rows.push_back({.handle = 3,
                       .request = 77,
                       .start = 0,
                       .count = 3,
                       .sample = true,
                       .new_global_blocks = {8},
                       .new_sliding_blocks = {9, 10}});
  rank.num_rows = 3;
  return plan;
}

TEST(PlanCodecTest, TellsEachRankItsPartAndTheShapeOfAll) {
  const scheduler::StepPlan plan = sample_plan();
  const wire::StepPlan idle = encode_plan(plan, 0);
  EXPECT_EQ(idle.rows_size(), 0);
  EXPECT_EQ(idle.rank_rows(1), 3U);
  const wire::StepPlan busy = encode_plan(plan, 1);
  EXPECT_EQ(busy.epoch(), 4U);
  EXPECT_EQ(busy.step(), 9U);
  EXPECT_EQ(busy.mode(), wire::STEP_MODE_EXACT);
  ASSERT_EQ(busy.admissions_size(), 1);
  const wire::Admission& admission = busy.admissions(0);
  EXPECT_EQ(admission.num_prompt_tokens(), 2U);
  EXPECT_EQ(admission.token_ids(2), 11U);
  EXPECT_FLOAT_EQ(admission.sampling().temperature(), 0.5F);
  EXPECT_EQ(admission.sampling().seed(), 123U);
  EXPECT_EQ(admission.sampling().choice(), 2U);
  EXPECT_EQ(admission.sampling().num_prompt_logprobs(), -1);
  EXPECT_EQ(admission.sampling().logit_bias(0).token_id(), 5U);
  EXPECT_EQ(admission.sampling().allowed_token_ids_size(), 2);
  EXPECT_EQ(admission.sampling().stop_token_ids(0), 1U);
  ASSERT_EQ(busy.rows_size(), 1);
  EXPECT_EQ(busy.rows(0).new_sliding_blocks(1), 10U);
}

TEST(PlanCodecTest, TellsAllRanksTheFeatureJobsAndEachItsDrops) {
  const scheduler::StepPlan plan = sample_plan();
  const wire::StepPlan idle = encode_plan(plan, 0);
  const wire::StepPlan busy = encode_plan(plan, 1);
  EXPECT_EQ(idle.feature_drops_size(), 0);
  ASSERT_EQ(busy.feature_drops_size(), 1);
  EXPECT_EQ(busy.feature_drops(0).high(), 5U);
  EXPECT_EQ(busy.feature_drops(0).low(), 6U);
  ASSERT_EQ(idle.feature_jobs_size(), 2);
  ASSERT_EQ(busy.feature_jobs_size(), 2);
  EXPECT_EQ(idle.feature_jobs(1).SerializeAsString(), busy.feature_jobs(1).SerializeAsString());
  const wire::FeatureJob& job = busy.feature_jobs(0);
  EXPECT_EQ(job.key().high(), 1U);
  EXPECT_EQ(job.key().low(), 2U);
  EXPECT_EQ(job.num_tokens(), 1U);
  EXPECT_EQ(job.source(), 0U);
  EXPECT_EQ(job.destination(), 1U);
  EXPECT_TRUE(job.encode());
  EXPECT_FALSE(busy.feature_jobs(1).encode());
  ASSERT_EQ(busy.admissions(0).pictures_size(), 2);
  const wire::PictureSpan& span = busy.admissions(0).pictures(1);
  EXPECT_EQ(span.key().high(), 3U);
  EXPECT_EQ(span.key().low(), 4U);
  EXPECT_EQ(span.start(), 1U);
  EXPECT_EQ(span.num_tokens(), 1U);
}

TEST(PlanCodecTest, FactsSayWhatPicturesARankCanKeep) {
  wire::Registration registration = wire::mock_registration(0, 2, "x");
  registration.mutable_cache()->set_num_feature_tokens(300);
  registration.mutable_cache()->set_max_picture_patches(2'520);
  EXPECT_EQ(to_facts(registration).num_feature_tokens, 300U);
  EXPECT_EQ(to_facts(registration).max_picture_patches, 2'520U);
}

TEST(PlanCodecTest, WhatItWritesIsValidForAWorker) {
  wire::GroupLimits limits;
  limits.epoch = 4;
  limits.num_ranks = 2;
  limits.model = wire::mock_registration(0, 2, "x").model();
  limits.cache = wire::mock_registration(0, 2, "x").cache();
  limits.cache.set_num_feature_tokens(300);
  limits.cache.set_max_picture_patches(2'520);
  for (const uint32_t rank : {0U, 1U}) {
    const auto status = wire::validate(encode_plan(sample_plan(), rank), limits, rank);
    EXPECT_TRUE(status) << status.error().message;
  }
}

TEST(PlanCodecTest, DecodesResults) {
  wire::StepResult result;
  result.set_epoch(4);
  result.set_step(9);
  result.mutable_times()->set_total_us(1500);
  wire::Output& output = *result.add_outputs();
  output.set_handle(3);
  wire::Token& token = *output.add_tokens();
  token.set_token_id(42);
  token.set_logprob(-0.25F);
  token.add_top_token_ids(41);
  token.add_top_logprobs(-1.5F);
  result.add_outputs()->set_error("it failed");
  const scheduler::RankResult decoded = decode_result(result, 1);
  EXPECT_EQ(decoded.rank, 1U);
  EXPECT_EQ(decoded.duration_us, 1500);
  ASSERT_EQ(decoded.outputs.size(), 2U);
  ASSERT_EQ(decoded.outputs[0].tokens.size(), 1U);
  EXPECT_EQ(decoded.outputs[0].tokens[0].token_id, 42);
  EXPECT_EQ(decoded.outputs[0].tokens[0].top[0].token_id, 41);
  EXPECT_EQ(decoded.outputs[1].error, "it failed");
}

}  // namespace
}  // namespace beryl::cluster
