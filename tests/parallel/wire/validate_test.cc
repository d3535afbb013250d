#include "parallel/wire/validate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/parallel/wire/sample_messages.h"

namespace beryl::wire {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <typename Message>
struct Damage {
  std::string name;
  std::function<void(Message&)> apply;
};

TEST(WireValidateTest, AcceptsWhatIsRight) {
  EXPECT_TRUE(validate(sample_registration()));
  EXPECT_TRUE(validate(sample_plan(), sample_limits(), 0));
  EXPECT_TRUE(validate(sample_result(), sample_limits()));
}

TEST(WireValidateTest, RefusesDamagedRegistrations) {
  const std::vector<Damage<Registration>> damages = {
      {"no launch id", [](auto& m) { m.clear_launch_id(); }},
      {"long launch id", [](auto& m) { m.set_launch_id(std::string(kMaxNameBytes + 1, 'x')); }},
      {"launch id that breaks a log", [](auto& m) { m.set_launch_id("a\nb"); }},
      {"group", [](auto& m) { m.set_group(kMaxGroups); }},
      {"rank", [](auto& m) { m.set_rank(2); }},
      {"no ranks", [](auto& m) { m.set_num_ranks(0); }},
      {"too many ranks", [](auto& m) { m.set_num_ranks(kMaxRanks + 1); }},
      {"host with escape", [](auto& m) { m.set_host("\x1B[31m"); }},
      {"vocabulary of none", [](auto& m) { m.mutable_model()->set_vocab_size(0); }},
      {"huge vocabulary", [](auto& m) { m.mutable_model()->set_vocab_size(1U << 31); }},
      {"no length", [](auto& m) { m.mutable_model()->set_max_model_len(0); }},
      {"no window", [](auto& m) { m.mutable_model()->set_sliding_window(0); }},
      {"top_k above experts", [](auto& m) { m.mutable_model()->set_top_k_experts(9); }},
      {"forbidden id", [](auto& m) { m.mutable_model()->add_forbidden_token_ids(1000); }},
      {"no model", [](auto& m) { m.clear_model(); }},
      {"no cache", [](auto& m) { m.clear_cache(); }},
      {"block size", [](auto& m) { m.mutable_cache()->set_block_size(0); }},
      {"pages", [](auto& m) { m.mutable_cache()->set_num_pages(0xFFFFFFFF); }},
      {"no page", [](auto& m) { m.mutable_cache()->set_num_pages(0); }},
      {"blocks of a page", [](auto& m) { m.mutable_cache()->set_global_blocks_per_page(0); }},
      {"blocks", [](auto& m) { m.mutable_cache()->set_global_blocks_per_page(1U << 26); }},
      {"sequences", [](auto& m) { m.mutable_cache()->set_max_num_seqs(0); }},
      {"feature tokens",
       [](auto& m) { m.mutable_cache()->set_num_feature_tokens(kMaxFeatureTokens + 1); }},
      {"pictures of no patch", [](auto& m) { m.mutable_cache()->set_max_picture_patches(0); }},
      {"patches",
       [](auto& m) { m.mutable_cache()->set_max_picture_patches(kMaxPicturePatches + 1); }},
  };
  for (const auto& damage : damages) {
    Registration message = sample_registration();
    damage.apply(message);
    EXPECT_FALSE(validate(message)) << damage.name;
  }
}

TEST(WireValidateTest, RefusesDamagedPlans) {
  const std::vector<Damage<StepPlan>> damages = {
      {"epoch", [](auto& m) { m.set_epoch(2); }},
      {"step", [](auto& m) { m.set_step(0); }},
      {"mode", [](auto& m) { m.set_mode(STEP_MODE_UNSPECIFIED); }},
      {"unknown mode", [](auto& m) { m.set_mode(static_cast<StepMode>(77)); }},
      {"ranks", [](auto& m) { m.add_rank_rows(0); }},
      {"other rows", [](auto& m) { m.set_rank_rows(0, 4); }},
      {"rows of another rank", [](auto& m) { m.set_rank_rows(1, 129); }},
      {"long row when padded", [](auto& m) { m.set_mode(STEP_MODE_PADDED), m.set_bucket(8); }},
      {"bucket", [](auto& m) { m.set_bucket(1U << 30); }},
      {"release", [](auto& m) { m.add_releases(8); }},
      {"handle", [](auto& m) { m.mutable_admissions(0)->set_handle(8); }},
      {"token", [](auto& m) { m.mutable_admissions(0)->add_token_ids(1000); }},
      {"no tokens", [](auto& m) { m.mutable_admissions(0)->clear_token_ids(); }},
      {"prompt size", [](auto& m) { m.mutable_admissions(0)->set_num_prompt_tokens(5); }},
      {"row handle", [](auto& m) { m.mutable_rows(0)->set_handle(8); }},
      {"count 0", [](auto& m) { m.mutable_rows(0)->set_count(0); }},
      {"past the end", [](auto& m) { m.mutable_rows(1)->set_start(512); }},
      {"start wraps", [](auto& m) { m.mutable_rows(1)->set_start(0xFFFFFFFF); }},
      {"global block", [](auto& m) { m.mutable_rows(0)->add_new_global_blocks(64); }},
      {"sliding block", [](auto& m) { m.mutable_rows(0)->add_new_sliding_blocks(32); }},
  };
  for (const auto& damage : damages) {
    StepPlan message = sample_plan();
    damage.apply(message);
    EXPECT_FALSE(validate(message, sample_limits(), 0)) << damage.name;
  }
}

TEST(WireValidateTest, RefusesDamagedPictures) {
  const auto span = [](StepPlan& plan, int idx) {
    return plan.mutable_admissions(0)->mutable_pictures(idx);
  };
  const std::vector<Damage<StepPlan>> damages = {
      {"span without a key", [&](auto& m) { span(m, 0)->clear_key(); }},
      {"empty span", [&](auto& m) { span(m, 0)->set_num_tokens(0); }},
      {"spans overlap", [&](auto& m) { span(m, 1)->set_start(1); }},
      {"spans descend", [&](auto& m) { span(m, 0)->set_start(2), span(m, 1)->set_start(0); }},
      {"span past the prompt", [&](auto& m) { span(m, 1)->set_start(3); }},
      {"span end wraps", [&](auto& m) { span(m, 1)->set_num_tokens(0xFFFFFFFF); }},
      {"span in the answer", [](auto& m) { m.mutable_admissions(0)->set_num_prompt_tokens(3); }},
      {"job without a key", [](auto& m) { m.mutable_feature_jobs(0)->clear_key(); }},
      {"job of no token", [](auto& m) { m.mutable_feature_jobs(0)->set_num_tokens(0); }},
      {"job too large", [](auto& m) { m.mutable_feature_jobs(0)->set_num_tokens(101); }},
      {"source", [](auto& m) { m.mutable_feature_jobs(0)->set_source(2); }},
      {"destination", [](auto& m) { m.mutable_feature_jobs(0)->set_destination(2); }},
      {"move to itself", [](auto& m) { m.mutable_feature_jobs(1)->set_destination(1); }},
      {"many jobs",
       [](auto& m) {
         for (int i = 0; i < kMaxFeatureJobs; ++i) *m.add_feature_jobs() = m.feature_jobs(0);
       }},
      {"many drops",
       [](auto& m) {
         for (int i = 0; i < kMaxFeatureDrops; ++i) *m.add_feature_drops() = m.feature_drops(0);
       }},
  };
  for (const auto& damage : damages) {
    StepPlan message = sample_plan();
    damage.apply(message);
    EXPECT_FALSE(validate(message, sample_limits(), 0)) << damage.name;
  }
  GroupLimits text_only = sample_limits();
  text_only.cache.set_num_feature_tokens(0);
  EXPECT_FALSE(validate(sample_plan(), text_only, 0));
  StepPlan padded = sample_plan();
  padded.set_mode(STEP_MODE_PADDED);
  padded.set_bucket(8);
  padded.mutable_rows(0)->set_count(1);
  padded.set_rank_rows(0, 2);
  EXPECT_FALSE(validate(padded, sample_limits(), 0)) << "jobs in padded mode";
  padded.clear_feature_jobs();
  EXPECT_TRUE(validate(padded, sample_limits(), 0));
}

TEST(WireValidateTest, RefusesDamagedSampling) {
  const std::vector<Damage<SamplingParams>> damages = {
      {"temperature", [](auto& m) { m.set_temperature(-1); }},
      {"temperature NaN", [](auto& m) { m.set_temperature(kNan); }},
      {"temperature inf", [](auto& m) { m.set_temperature(INFINITY); }},
      {"top_p", [](auto& m) { m.set_top_p(1.5F); }},
      {"min_p", [](auto& m) { m.set_min_p(kNan); }},
      {"repetition", [](auto& m) { m.set_repetition_penalty(0); }},
      {"presence", [](auto& m) { m.set_presence_penalty(-INFINITY); }},
      {"logprobs", [](auto& m) { m.set_num_top_logprobs(21); }},
      {"prompt logprobs", [](auto& m) { m.set_num_prompt_logprobs(-2); }},
      {"stop id", [](auto& m) { m.add_stop_token_ids(1000); }},
      {"allowed id", [](auto& m) { m.add_allowed_token_ids(1000); }},
      {"bias id", [](auto& m) { m.add_logit_bias()->set_token_id(1000); }},
      {"bias", [](auto& m) { m.add_logit_bias()->set_bias(kNan); }},
  };
  for (const auto& damage : damages) {
    StepPlan message = sample_plan();
    damage.apply(*message.mutable_admissions(0)->mutable_sampling());
    EXPECT_FALSE(validate(message, sample_limits(), 0)) << damage.name;
  }
}

TEST(WireValidateTest, RefusesDamagedResults) {
  const std::vector<Damage<StepResult>> damages = {
      {"epoch", [](auto& m) { m.set_epoch(4); }},
      {"step", [](auto& m) { m.set_step(0); }},
      {"handle", [](auto& m) { m.mutable_outputs(0)->set_handle(8); }},
      {"position", [](auto& m) { m.mutable_outputs(0)->set_position(513); }},
      {"token", [](auto& m) { m.mutable_outputs(0)->mutable_tokens(0)->set_token_id(1000); }},
      {"prompt", [](auto& m) { m.mutable_outputs(0)->mutable_prompt(0)->set_token_id(1000); }},
      {"top id",
       [](auto& m) { m.mutable_outputs(0)->mutable_tokens(0)->set_top_token_ids(0, 1000); }},
      {"top sizes", [](auto& m) { m.mutable_outputs(0)->mutable_tokens(0)->add_top_logprobs(0); }},
      {"NaN", [](auto& m) { m.mutable_outputs(0)->mutable_tokens(0)->set_logprob(kNan); }},
      {"error", [](auto& m) { m.mutable_outputs(0)->set_error(std::string(2000, 'x')); }},
      {"many tokens",
       [](auto& m) {
         for (int i = 0; i < kMaxTokensPerOutput; ++i) m.mutable_outputs(0)->add_tokens();
       }},
      {"many outputs",
       [](auto& m) {
         for (int i = 0; i < 8; ++i) m.add_outputs();
       }},
  };
  for (const auto& damage : damages) {
    StepResult message = sample_result();
    damage.apply(message);
    EXPECT_FALSE(validate(message, sample_limits())) << damage.name;
  }
}

TEST(WireValidateTest, ReasonsAreCutToOnePrintableLine) {
  EXPECT_EQ(clean_reason("a\nb\x1B\xFF"), "a?b??");
  EXPECT_EQ(clean_reason(std::string(5000, 'x')).size(), kMaxReasonBytes);
}

}  // namespace
}  // namespace beryl::wire
