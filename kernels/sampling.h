// Sampling parameters and results of one step, as plain arrays that a host or a device can read.
#pragma once

#include <cstdint>

namespace beryl::kernels {

constexpr int kMaxTopLogprobs = 20;

struct TokenCount {
  int32_t token_id;
  int32_t count;  // occurrences in the output; 0: in the prompt only
};

struct TokenBias {
  int32_t token_id;
  float bias;  // added to the logit; -infinity forbids the token
};

// One row. Order of work: penalties, bias, logprobs (of the unscaled logits), temperature,
// top_k, top_p, min_p, draw.
struct SamplingRow {
  float temperature = 1;          // 0 = greedy (ties: smallest id)
  int32_t top_k = 0;              // 0 = off
  float top_p = 1;                // 1 = off
  float min_p = 0;                // 0 = off
  float repetition_penalty = 1;   // prompt and output tokens
  float presence_penalty = 0;     // output tokens
  float frequency_penalty = 0;    // output tokens
  uint64_t seed = 0;              // with choice and position the only source of randomness
  uint32_t choice = 0;            // which of the n choices
  uint32_t position = 0;          // position of the token to be drawn
  int32_t num_top_logprobs = -1;  // -1: no logprobs at all; 0..20: that many beside the drawn token
  const TokenCount* counts = nullptr;  // tokens with a penalty to apply, any order
  int32_t num_counts = 0;
  const TokenBias* biases = nullptr;  // logit_bias and forbidden tokens
  int32_t num_biases = 0;
};

struct SamplingBatch {
  const SamplingRow* rows = nullptr;  // [S]
  int num_rows = 0;
};

struct TokenLogprob {
  int32_t token_id;
  float logprob;
};

struct SampledToken {
  int32_t token_id = -1;
  bool has_nan =
      false;  // the logits held a NaN or +infinity: the request fails, the worker goes on
  bool all_forbidden = false;  // no token was left to draw: the request fails likewise
  float logprob = 0;           // log-softmax of the logits after penalties and bias
  int32_t num_top = 0;
  TokenLogprob top[kMaxTopLogprobs];
};

}  // namespace beryl::kernels
