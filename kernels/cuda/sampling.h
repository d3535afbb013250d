// Sampling of one token a row on the device. The rules are those of kernels/sampling.h and
// kernels/cpu/sampling.cc, including the order in which candidates meet the random number, so that
// both draw the same token from the same logits (up to rounding at the borders).
//
// A row is cut into segments, a warp each, many blocks a row: one pass finds the largest logit of
// each, a second, where a row needs it, adds masses, a third splits a nucleus. What is left for the
// one block that draws is a few candidates.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/launch_stream.h"
#include "kernels/sampling.h"

namespace beryl::kernels::cuda {

constexpr int kMaxSampledVocab = 1 << 21;

// What rows of a batch need besides the largest logits; each adds launches.
struct SamplingNeeds {
  int max_counts = 0;  // of a row
  int max_biases = 0;
  bool masses = false;   // draws without top_k, log probabilities
  bool nucleus = false;  // top_p without top_k
};
SamplingNeeds sampling_needs(const SamplingBatch& batch, int vocab_size);

struct SamplingWork;  // sampling_row.cuh
size_t sampling_work_bytes(int num_rows);

struct SampleArgs {
  float* logits = nullptr;  // [num_rows, vocab_size], changed in place
  int vocab_size = 0;
  int num_rows = 0;
  const SamplingRow* rows = nullptr;  // [num_rows]; its arrays lie on the device too
  SampledToken* sampled = nullptr;    // [num_rows]
  SamplingWork* work = nullptr;       // sampling_work_bytes(num_rows), aligned to 16
};
cudaError_t launch_sample(const SampleArgs& args, const SamplingNeeds& needs, LaunchStream stream);

// The passes over all segments, in this order; launch_sample starts those that are needed.
cudaError_t launch_penalties(const SampleArgs& args, const SamplingNeeds& needs,
                             LaunchStream stream);
cudaError_t launch_segment_maxima(const SampleArgs& args, LaunchStream stream);
cudaError_t launch_segment_masses(const SampleArgs& args, LaunchStream stream);
cudaError_t launch_nucleus_border(const SampleArgs& args, LaunchStream stream);

}  // namespace beryl::kernels::cuda
