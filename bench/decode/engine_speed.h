// Speed of one rank's engine: decoding at a batch size and context, and prompts of a length. Each
// step is what a server runs: plan, forward pass, sampling.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/decode/engine_runner.h"

namespace beryl::bench {

// How far decoding and prefilling the same tokens are apart.
struct VerifyResult {
  int num_tokens = 0;             // compared
  double logprob_difference = 0;  // root mean square, of the tokens that were decoded
  double fault_difference = 0;    // the same with one wrong token in the prompt: a control
};

// Decodes tokens after a prompt, then prefills prompt and tokens in one step.
VerifyResult verify_engine(const model::ModelConfig& config, EngineRunner& runner);

struct DecodeShape {
  int batch_size = 1;
  int context = 512;   // tokens of each request before the first step
  int num_steps = 64;  // measured
};

constexpr int kNumWarmupSteps = 8;
constexpr int kNumCountedSteps = 4;  // after the measured ones, with the experts counted
constexpr int kNumVerifiedTokens = 16;
constexpr int kNumVerifiedPromptTokens = 48;

EngineSize decode_size(const DecodeShape& shape, int max_rows, int block_size);
EngineSize prefill_size(int num_tokens, int max_rows, int block_size);

struct DecodeResult {
  double set_up_seconds = 0;  // prefill of all contexts
  double median_ms = 0;       // of a step
  double p99_ms = 0;
  double mean_ms = 0;
  double experts_per_layer = 0;  // distinct ones that a step reads, mean
  double kv_bytes = 0;           // that a step reads, mean
  double flops = 0;              // of a step, mean
};

// The runner has the size above and no requests. Other seeds give other tokens.
DecodeResult measure_decode(const model::ModelConfig& config, const DecodeShape& shape,
                            kernels::DType kv_dtype, uint64_t seed, EngineRunner& runner,
                            kernels::Ops& ops);

struct PrefillResult {
  int num_chunks = 0;
  int num_repeats = 0;
  double median_ms = 0;     // to the first token
  double experts_read = 0;  // distinct ones, summed over layers and chunks
};

// Runs a prompt once with the experts counted, then again for `seconds`, at least once.
PrefillResult measure_prefill(const model::ModelConfig& config, int num_tokens, double seconds,
                              int max_rows, uint64_t seed, EngineRunner& runner, kernels::Ops& ops);

}  // namespace beryl::bench
