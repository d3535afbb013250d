#include "worker/engine/sampling_state.h"

#include <limits>
#include <unordered_set>

namespace beryl::engine {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

}  // namespace

SamplingState::SamplingState(const wire::SamplingParams& params,
                             std::span<const uint32_t> forbidden, uint32_t vocab_size)
    : params_(params) {
  for (const uint32_t id : forbidden) biases_.push_back({static_cast<int32_t>(id), kForbidden});
  if (params.allowed_token_ids_size() > 0) {
    const std::unordered_set<uint32_t> allowed(params.allowed_token_ids().begin(),
                                               params.allowed_token_ids().end());
    for (uint32_t id = 0; id < vocab_size; ++id) {
      if (!allowed.contains(id)) biases_.push_back({static_cast<int32_t>(id), kForbidden});
    }
  }
  for (const wire::LogitBias& bias : params.logit_bias()) {
    biases_.push_back({static_cast<int32_t>(bias.token_id()), bias.bias()});
  }
  num_biases_after_min_tokens_ = static_cast<int32_t>(biases_.size());
  if (params.min_tokens() > 0) {
    for (const uint32_t id : params.stop_token_ids()) {
      biases_.push_back({static_cast<int32_t>(id), kForbidden});
    }
  }
}

bool SamplingState::has_penalties() const {
  return params_.repetition_penalty() != 1 || params_.presence_penalty() != 0 ||
         params_.frequency_penalty() != 0;
}

kernels::TokenCount& SamplingState::count_of(int32_t token_id) {
  const auto [entry, is_new] = count_idx_.try_emplace(token_id, counts_.size());
  if (is_new) counts_.push_back({token_id, 0});
  return counts_[entry->second];
}

void SamplingState::count_prompt_token(int32_t token_id) {
  // Only the repetition penalty looks at the prompt; an entry of count 0 says "seen there".
  if (params_.repetition_penalty() != 1) (void)count_of(token_id);
}

void SamplingState::count_output_token(int32_t token_id) {
  if (has_penalties()) ++count_of(token_id).count;
}

kernels::SamplingRow SamplingState::row(uint32_t position, uint32_t num_output_tokens) const {
  const bool may_stop = num_output_tokens >= params_.min_tokens();
  return {
      .temperature = params_.temperature(),
      .top_k = static_cast<int32_t>(params_.top_k()),
      .top_p = params_.top_p(),
      .min_p = params_.min_p(),
      .repetition_penalty = params_.repetition_penalty(),
      .presence_penalty = params_.presence_penalty(),
      .frequency_penalty = params_.frequency_penalty(),
      .seed = params_.seed(),
      .choice = params_.choice(),
      .position = position,
      .num_top_logprobs = params_.num_top_logprobs(),
      .counts = counts_.data(),
      .num_counts = static_cast<int32_t>(counts_.size()),
      .biases = biases_.data(),
      .num_biases = may_stop ? num_biases_after_min_tokens_ : static_cast<int32_t>(biases_.size())};
}

}  // namespace beryl::engine
