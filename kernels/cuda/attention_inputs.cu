#include "kernels/cuda/attention_inputs.h"

#include <algorithm>

#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNumWarps = kThreads / kWarpSize;

struct InvFreq {
  float value[kMaxRotaryPairs];
};

struct RowContext {
  const float* cos;  // [pairs] shared
  const float* sin;
  float* head;  // [head_dim] shared, this warp's
  int head_dim;
  int pairs;
  bool is_global;
};

// Number i of the head after RoPE.
__device__ float rotated(const RowContext& c, int i) {
  const int half = c.head_dim / 2;
  if (i < c.pairs) return c.head[i] * c.cos[i] - c.head[i + half] * c.sin[i];
  const int j = i - half;
  if (j >= 0 && j < c.pairs) return c.head[i] * c.cos[j] + c.head[j] * c.sin[j];
  return c.head[i];
}

__device__ void write_query(const RowContext& c, const bf16* k_norm, bf16* to) {
  const int half = c.head_dim / 2;
  for (int i = lane_idx(); i < c.head_dim; i += kWarpSize) {
    const int j = i < half ? i : i - half;
    const bool folds_norm = c.is_global && j >= c.pairs;
    const float value = rotated(c, i);
    to[i] = from_float<bf16>(folds_norm ? value * to_float(k_norm[i]) : value);
  }
}

__device__ void write_key(const RowContext& c, bf16* entry) {
  for (int i = lane_idx(); i < c.head_dim; i += kWarpSize) {
    entry[i] = from_float<bf16>(rotated(c, i));
  }
}

// V = head (normed without weight), and the rotated part of K made from it.
__device__ void write_global(const RowContext& c, const bf16* k_norm, bf16* entry) {
  const int half = c.head_dim / 2;
  for (int i = lane_idx(); i < c.head_dim; i += kWarpSize) entry[i] = from_float<bf16>(c.head[i]);
  bf16* rotated_part = entry + c.head_dim;
  for (int i = lane_idx(); i < c.pairs; i += kWarpSize) {
    const float a = c.head[i] * to_float(k_norm[i]);
    const float b = c.head[i + half] * to_float(k_norm[i + half]);
    rotated_part[i] = from_float<bf16>(a * c.cos[i] - b * c.sin[i]);
    rotated_part[c.pairs + i] = from_float<bf16>(b * c.cos[i] + a * c.sin[i]);
  }
}

// Block (row, part of its heads): query heads, then key heads, then value heads, a warp each.
__global__ void __launch_bounds__(kThreads)
    attention_inputs_kernel(AttentionInputsArgs args, InvFreq inv_freq) {
  begin_overlapping_kernel();
  __shared__ float cos_sin[2][kMaxRotaryPairs];
  __shared__ float heads[kNumWarps][kMaxHeadDim];
  const int row = static_cast<int>(blockIdx.x);
  const AttentionShape& shape = args.shape;
  const int pairs = shape.rotary_dim / 2;
  const int position = args.positions[row];
  for (int i = static_cast<int>(threadIdx.x); i < pairs; i += kThreads) {
    // The product is rounded to float32, as the reference does.
    const float angle = __fmul_rn(static_cast<float>(position), inv_freq.value[i]);
    sincosf(angle, &cos_sin[1][i], &cos_sin[0][i]);
  }
  __syncthreads();
  const bool is_global = shape.window == 0;
  const int unit = static_cast<int>(blockIdx.y) * kNumWarps + warp_idx();
  const int num_units = shape.num_heads + shape.num_kv_heads * (is_global ? 1 : 2);
  if (unit >= num_units) return;  // no barrier of the block below
  const RowContext c = {cos_sin[0],     cos_sin[1], heads[warp_idx()],
                        shape.head_dim, pairs,      is_global};
  const int64_t d = shape.head_dim;
  const auto* k_norm = reinterpret_cast<const bf16*>(args.k_norm);
  if (unit < shape.num_heads) {
    const int64_t at = (int64_t{row} * shape.num_heads + unit) * d;
    norm_head(args.q_projected + at, reinterpret_cast<const bf16*>(args.q_norm), c.head_dim,
              shape.rms_norm_eps, c.head);
    write_query(c, k_norm, reinterpret_cast<bf16*>(args.q) + at);
    return;
  }
  const bool is_value = unit >= shape.num_heads + shape.num_kv_heads;
  const int kv_head = unit - shape.num_heads - (is_value ? shape.num_kv_heads : 0);
  const int64_t at = (int64_t{row} * shape.num_kv_heads + kv_head) * d;
  auto* entry =
      reinterpret_cast<bf16*>(args.cache.entry(args.row_segments[row], kv_head, position));
  if (is_value) {
    norm_head(args.v_projected + at, nullptr, c.head_dim, shape.rms_norm_eps, c.head);
    bf16* to = entry + args.cache.value_offset;
    for (int i = lane_idx(); i < c.head_dim; i += kWarpSize) to[i] = from_float<bf16>(c.head[i]);
  } else if (is_global) {
    norm_head(args.k_projected + at, nullptr, c.head_dim, shape.rms_norm_eps, c.head);
    write_global(c, k_norm, entry);
  } else {
    norm_head(args.k_projected + at, k_norm, c.head_dim, shape.rms_norm_eps, c.head);
    write_key(c, entry);
  }
}

}  // namespace

cudaError_t launch_attention_inputs(const AttentionInputsArgs& args, LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  const AttentionShape& shape = args.shape;
  BERYL_CHECK(shape.head_dim <= kMaxHeadDim && shape.head_dim % 2 == 0);
  BERYL_CHECK(shape.rotary_dim % 2 == 0 && shape.rotary_dim / 2 <= kMaxRotaryPairs);
  BERYL_CHECK(shape.rotary_dim <= shape.head_dim);
  InvFreq inv_freq = {};
  std::copy_n(shape.inv_freq, shape.rotary_dim / 2, inv_freq.value);
  const int num_units = shape.num_heads + shape.num_kv_heads * (shape.is_global() ? 1 : 2);
  const dim3 grid(static_cast<unsigned>(args.num_rows),
                  static_cast<unsigned>((num_units + kNumWarps - 1) / kNumWarps));
  return launch_overlapping_kernel(attention_inputs_kernel, grid, kThreads, 0, stream, args,
                                   inv_freq);
}

}  // namespace beryl::kernels::cuda
