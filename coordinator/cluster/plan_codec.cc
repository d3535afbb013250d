#include "coordinator/cluster/plan_codec.h"

#include <utility>

namespace beryl::cluster {
namespace {

// Spreads neighbouring request ids over all bits (the finaliser of SplitMix64).
uint64_t mixed(uint64_t value) {
  value += 0x9E3779B97F4A7C15;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

void encode_sampling(const scheduler::PlannedAdmission& admission, wire::SamplingParams& out) {
  const scheduler::SamplingParams& sampling = admission.sampling;
  out.set_temperature(sampling.temperature);
  out.set_top_k(sampling.top_k);
  out.set_top_p(sampling.top_p);
  out.set_min_p(sampling.min_p);
  out.set_repetition_penalty(sampling.repetition_penalty);
  out.set_presence_penalty(sampling.presence_penalty);
  out.set_frequency_penalty(sampling.frequency_penalty);
  out.set_seed(sampling.seed);
  out.set_choice(sampling.choice);
  out.set_num_top_logprobs(sampling.num_top_logprobs);
  out.set_num_prompt_logprobs(sampling.num_prompt_logprobs);
  out.set_min_tokens(sampling.min_tokens);
  for (const int32_t id : admission.stop_token_ids) {
    out.add_stop_token_ids(static_cast<uint32_t>(id));
  }
  for (const scheduler::LogitBias& bias : sampling.logit_bias) {
    wire::LogitBias& entry = *out.add_logit_bias();
    entry.set_token_id(static_cast<uint32_t>(bias.token_id));
    entry.set_bias(bias.bias);
  }
  for (const int32_t id : sampling.allowed_token_ids) {
    out.add_allowed_token_ids(static_cast<uint32_t>(id));
  }
}

void encode_key(const scheduler::PictureKey& key, wire::PictureKey& out) {
  out.set_high(key.high);
  out.set_low(key.low);
}

void encode_job(const scheduler::FeatureJob& job, wire::FeatureJob& out) {
  encode_key(job.key, *out.mutable_key());
  out.set_num_tokens(job.num_tokens);
  out.set_source(job.source);
  out.set_destination(job.destination);
  out.set_encode(job.encode);
}

void encode_admission(const scheduler::PlannedAdmission& admission, wire::Admission& out) {
  out.set_handle(admission.handle);
  out.set_request_seed(mixed(admission.request));
  encode_sampling(admission, *out.mutable_sampling());
  out.mutable_token_ids()->Reserve(static_cast<int>(admission.token_ids.size()));
  for (const int32_t id : admission.token_ids) out.add_token_ids(static_cast<uint32_t>(id));
  out.set_num_prompt_tokens(admission.num_prompt_tokens);
  for (const scheduler::PictureSpan& span : admission.pictures) {
    wire::PictureSpan& entry = *out.add_pictures();
    encode_key(span.key, *entry.mutable_key());
    entry.set_start(span.start);
    entry.set_num_tokens(span.num_tokens);
  }
}

void encode_row(const scheduler::PlannedRow& row, wire::Row& out) {
  out.set_handle(row.handle);
  out.set_start(row.start);
  out.set_count(row.count);
  out.set_sample(row.sample);
  *out.mutable_new_global_blocks() = {row.new_global_blocks.begin(), row.new_global_blocks.end()};
  *out.mutable_new_sliding_blocks() = {row.new_sliding_blocks.begin(),
                                       row.new_sliding_blocks.end()};
}

scheduler::GeneratedToken decode_token(const wire::Token& token) {
  scheduler::GeneratedToken out;
  out.token_id = static_cast<int32_t>(token.token_id());
  out.logprob = token.logprob();
  out.top.reserve(static_cast<size_t>(token.top_token_ids_size()));
  for (int i = 0; i < token.top_token_ids_size(); ++i) {
    out.top.push_back({static_cast<int32_t>(token.top_token_ids(i)), token.top_logprobs(i)});
  }
  return out;
}

}  // namespace

wire::StepPlan encode_plan(const scheduler::StepPlan& plan, uint32_t rank) {
  wire::StepPlan out;
  out.set_epoch(plan.epoch);
  out.set_step(plan.step);
  out.set_mode(plan.mode == scheduler::StepMode::kPadded ? wire::STEP_MODE_PADDED
                                                         : wire::STEP_MODE_EXACT);
  out.set_bucket(plan.bucket);
  out.set_placement_version(plan.placement_version);
  for (const scheduler::RankPlan& other : plan.ranks) out.add_rank_rows(other.num_rows);
  const scheduler::RankPlan& own = plan.ranks[rank];
  *out.mutable_releases() = {own.releases.begin(), own.releases.end()};
  for (const auto& key : own.feature_drops) encode_key(key, *out.add_feature_drops());
  for (const auto& job : plan.feature_jobs) encode_job(job, *out.add_feature_jobs());
  for (const auto& admission : own.admissions) encode_admission(admission, *out.add_admissions());
  for (const auto& row : own.rows) encode_row(row, *out.add_rows());
  return out;
}

scheduler::RankResult decode_result(const wire::StepResult& result, uint32_t rank) {
  scheduler::RankResult out;
  out.epoch = result.epoch();
  out.step = result.step();
  out.rank = rank;
  out.duration_us = result.times().total_us();
  out.outputs.reserve(static_cast<size_t>(result.outputs_size()));
  for (const wire::Output& output : result.outputs()) {
    scheduler::RowOutput row;
    row.handle = output.handle();
    row.error = output.error();
    for (const wire::Token& token : output.tokens()) row.tokens.push_back(decode_token(token));
    for (const wire::Token& token : output.prompt()) {
      row.prompt_logprobs.push_back(decode_token(token));
    }
    out.outputs.push_back(std::move(row));
  }
  return out;
}

scheduler::GroupFacts to_facts(const wire::Registration& registration) {
  return {.num_ranks = registration.num_ranks(),
          .max_model_len = registration.model().max_model_len(),
          .sliding_window = registration.model().sliding_window(),
          .block_size = registration.cache().block_size(),
          .num_pages = registration.cache().num_pages(),
          .global_blocks_per_page = registration.cache().global_blocks_per_page(),
          .max_num_seqs = registration.cache().max_num_seqs(),
          .max_num_batched_tokens = registration.cache().max_num_batched_tokens(),
          .num_feature_tokens = registration.cache().num_feature_tokens(),
          .max_picture_patches = registration.cache().max_picture_patches()};
}

}  // namespace beryl::cluster
