// Norms, RoPE and the writing of the KV cache, after the projections.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/cache_view.h"
#include "kernels/cuda/launch_stream.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kMaxRotaryPairs = 256;
constexpr int kMaxHeadDim = 512;

struct AttentionInputsArgs {
  AttentionShape shape;
  const uint16_t* q_norm = nullptr;       // [head_dim]
  const uint16_t* k_norm = nullptr;       // [head_dim]
  const float* q_projected = nullptr;     // [T, num_heads, head_dim]
  const float* k_projected = nullptr;     // [T, num_kv_heads, head_dim]
  const float* v_projected = nullptr;     // the same; null on global layers
  const int32_t* positions = nullptr;     // [T]
  const int32_t* row_segments = nullptr;  // [T]
  int num_rows = 0;
  CacheView cache;
  uint16_t* q = nullptr;  // bf16 [T, num_heads, head_dim]
};
cudaError_t launch_attention_inputs(const AttentionInputsArgs& args, LaunchStream stream);

}  // namespace beryl::kernels::cuda
