// Launchers of norms and what is added to the residual. Rows are float32 unless said otherwise, n
// numbers each, n a multiple of 8 up to kMaxNormWidth, 16-byte aligned.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/launch_stream.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int64_t kMaxNormWidth = 12 * 1024;  // a block holds a row in registers
constexpr int kMaxNormsThen = 2;

// rms_norm(residual) * weight once the residual is complete.
struct NormsThen {
  int count = 0;
  const uint16_t* weight[kMaxNormsThen] = {};
  uint16_t* out[kMaxNormsThen] = {};  // bf16
};

// weight may be empty; out float32 or bf16.
cudaError_t launch_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                            const TensorView& out, LaunchStream stream);
cudaError_t launch_add_rms_norm(const TensorView& x, const TensorView& weight, float eps,
                                const TensorView& residual, const NormsThen& then,
                                LaunchStream stream);

constexpr int kMaxMergedLeaves = 8;  // of a row, in shared memory

struct MergeFfnArgs {
  FfnMergeWeights weights;
  TensorView dense;
  // Rows of their own, or with `leaves` what those sum; leaves.leaves_per_row is at most
  // kMaxMergedLeaves.
  TensorView experts;
  const TreeSumBatch* leaves = nullptr;
  TensorView residual;
  float eps = 0;
  NormsThen then = {};
};
cudaError_t launch_merge_ffn(const MergeFfnArgs& args, LaunchStream stream);

}  // namespace beryl::kernels::cuda
