// Speed of the whole decoder on one rank: decode against the read bandwidth of the machine, prefill
// in floating-point operations. Verified first: decoding must give the bits of prefilling.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/model/rank_runner.h"

namespace beryl::bench {

struct DecodeBenchmarkOptions {
  std::vector<int> batch_sizes = {1, 4, 16};
  int num_steps = 48;  // measured, after num_warmup_steps
  int num_warmup_steps = 8;
  int context = 64;  // tokens of each request before the first step
  int prefill_tokens = 512;
  int prefill_repeats = 5;
};

struct DecodeResult {
  int batch_size = 0;
  double tokens_per_s = 0;  // from the median step
  double median_ms = 0;
  double p99_ms = 0;
  double bytes_per_step = 0;  // of weights, mean
  double bytes_per_s = 0;     // all bytes of the measured steps in all their time
};

struct PrefillResult {
  int num_tokens = 0;
  double median_ms = 0;
  double gflop_per_s = 0;
};

// Limits of a runner that these measurements need.
RunnerLimits decode_benchmark_limits(const DecodeBenchmarkOptions& options);

// Throws std::runtime_error where prefill and decode differ.
void verify_decode(const model::ModelConfig& config, RankRunner& runner);

DecodeResult measure_decode(const model::ModelConfig& config, const DecodeBenchmarkOptions& options,
                            int batch_size, RankRunner& runner);

PrefillResult measure_prefill(const model::ModelConfig& config,
                              const DecodeBenchmarkOptions& options, RankRunner& runner);

}  // namespace beryl::bench
