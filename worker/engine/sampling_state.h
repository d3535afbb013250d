// What one request's sampling needs beside the logits: its parameters, the counts behind the
// penalties and the list of biased and forbidden tokens.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/sampling.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::engine {

class SamplingState {
 public:
  SamplingState() = default;
  // `forbidden` ids are never drawn, whatever the parameters say. All ids are below vocab_size.
  SamplingState(const wire::SamplingParams& params, std::span<const uint32_t> forbidden,
                uint32_t vocab_size);

  // A token of the prompt, or one that was generated.
  void count_prompt_token(int32_t token_id);
  void count_output_token(int32_t token_id);

  // For drawing the token at `position` after num_output_tokens. Points into this object; valid
  // until the next change.
  kernels::SamplingRow row(uint32_t position, uint32_t num_output_tokens) const;

  // -1: not wanted.
  int num_prompt_logprobs() const { return params_.num_prompt_logprobs(); }

 private:
  bool has_penalties() const;
  kernels::TokenCount& count_of(int32_t token_id);

  wire::SamplingParams params_;
  std::vector<kernels::TokenCount> counts_;
  std::unordered_map<int32_t, size_t> count_idx_;  // token id -> entry of counts_
  std::vector<kernels::TokenBias> biases_;         // forbidden ones first, stop ids last
  int32_t num_biases_after_min_tokens_ = 0;        // without the stop ids
};

}  // namespace beryl::engine
