// Sampling of one token a row on the device. The rules are those of kernels/sampling.h and
// kernels/cpu/sampling.cc, including the order in which candidates meet the random number, so that
// both draw the same token from the same logits (up to rounding at the borders).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/sampling.h"

namespace beryl::kernels::cuda {

constexpr int kMaxSampledVocab = 1 << 21;

struct SampleArgs {
  float* logits = nullptr;  // [num_rows, vocab_size], changed in place
  int vocab_size = 0;
  int num_rows = 0;
  const SamplingRow* rows = nullptr;  // [num_rows]; its arrays lie on the device too
  SampledToken* sampled = nullptr;    // [num_rows]
};
cudaError_t launch_sample(const SampleArgs& args, cudaStream_t stream);

}  // namespace beryl::kernels::cuda
