// Valid messages for the tests of this folder to damage.
#pragma once

#include "parallel/wire/limits.h"
#include "parallel/wire/validate.h"

namespace beryl::wire {

inline Registration sample_registration() {
  Registration registration;
  registration.set_launch_id("launch-1");
  registration.set_group(0);
  registration.set_rank(1);
  registration.set_num_ranks(2);
  registration.set_host("node7");
  registration.set_pid(4711);
  registration.set_device("cpu avx2, 1 thread");
  registration.set_version("0.1.0");
  ModelFacts& model = *registration.mutable_model();
  model.set_vocab_size(1000);
  model.set_max_model_len(512);
  model.set_sliding_window(16);
  model.set_num_hidden_layers(6);
  model.set_num_experts(8);
  model.set_top_k_experts(2);
  model.add_forbidden_token_ids(7);
  model.set_fingerprint(99);
  CacheFacts& cache = *registration.mutable_cache();
  cache.set_block_size(16);
  cache.set_num_pages(32);
  cache.set_global_blocks_per_page(2);
  cache.set_max_num_seqs(8);
  cache.set_max_num_batched_tokens(128);
  cache.set_num_feature_tokens(100);
  cache.set_max_picture_patches(900);
  return registration;
}

inline GroupLimits sample_limits() {
  GroupLimits limits;
  limits.epoch = 3;
  limits.num_ranks = 2;
  limits.model = sample_registration().model();
  limits.cache = sample_registration().cache();
  return limits;
}

// For rank 0.
inline StepPlan sample_plan() {
  StepPlan plan;
  plan.set_epoch(3);
  plan.set_step(5);
  plan.set_mode(STEP_MODE_EXACT);
  plan.add_rank_rows(5);
  plan.add_rank_rows(0);
  plan.set_placement_version(1);
  plan.add_releases(2);
  Admission& admission = *plan.add_admissions();
  admission.set_handle(1);
  for (uint32_t id = 10; id < 14; ++id) admission.add_token_ids(id);
  admission.set_num_prompt_tokens(4);
  for (uint32_t start = 0; start < 4; start += 2) {
    PictureSpan& span = *admission.add_pictures();
    span.mutable_key()->set_high(5);
    span.mutable_key()->set_low(start);
    span.set_start(start);
    span.set_num_tokens(2);
  }
  plan.add_feature_drops()->set_low(77);
  FeatureJob& encoding = *plan.add_feature_jobs();
  *encoding.mutable_key() = admission.pictures(0).key();
  encoding.set_num_tokens(2);
  encoding.set_source(1);
  encoding.set_encode(true);
  FeatureJob& move = *plan.add_feature_jobs();
  *move.mutable_key() = admission.pictures(1).key();
  move.set_num_tokens(2);
  move.set_source(1);
  SamplingParams& sampling = *admission.mutable_sampling();
  sampling.set_temperature(1);
  sampling.set_top_p(0.9F);
  sampling.set_repetition_penalty(1);
  sampling.set_num_top_logprobs(3);
  sampling.set_num_prompt_logprobs(-1);
  sampling.add_stop_token_ids(1);
  Row& row = *plan.add_rows();
  row.set_handle(1);
  row.set_count(4);
  row.set_sample(true);
  row.add_new_global_blocks(63);
  row.add_new_sliding_blocks(31);
  Row& decode = *plan.add_rows();
  decode.set_handle(4);
  decode.set_start(20);
  decode.set_count(1);
  decode.set_sample(true);
  return plan;
}

inline StepResult sample_result() {
  StepResult result;
  result.set_epoch(3);
  result.set_step(5);
  Output& output = *result.add_outputs();
  output.set_handle(1);
  output.set_position(4);
  Token& token = *output.add_tokens();
  token.set_token_id(999);
  token.set_logprob(-1.5F);
  token.add_top_token_ids(3);
  token.add_top_logprobs(-0.5F);
  *output.add_prompt() = token;
  result.mutable_times()->set_total_us(1000);
  return result;
}

}  // namespace beryl::wire
