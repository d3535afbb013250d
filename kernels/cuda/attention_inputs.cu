#include "kernels/cuda/attention_inputs.h"

#include <algorithm>

#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kFewRows = 256;
constexpr int kPairsPerLane = kMaxHeadDim / 2 / kWarpSize;

struct InvFreq {
  float value[kMaxRotaryPairs];
};

// One head of one row in the registers of a warp: lane l has the numbers i = l + 32 * n and
// i + head_dim / 2, which RoPE rotates with one another.
struct Head {
  float low[kPairsPerLane];
  float high[kPairsPerLane];
};

// Calls visit(n, i) for this lane's pairs.
template <typename Visit>
__device__ void for_each_pair(int head_dim, const Visit& visit) {
#pragma unroll
  for (int n = 0; n < kPairsPerLane; ++n) {
    const int i = lane_idx() + n * kWarpSize;
    if (i < head_dim / 2) visit(n, i);
  }
}

// x * (mean(x^2) + eps)^-1/2
__device__ Head normed_head(const float* x, int head_dim, float eps) {
  Head head = {};
  for_each_pair(head_dim, [&](int n, int i) {
    head.low[n] = x[i];
    head.high[n] = x[i + head_dim / 2];
  });
  float sum = 0;
#pragma unroll
  for (int n = 0; n < kPairsPerLane; ++n) {
    sum += head.low[n] * head.low[n] + head.high[n] * head.high[n];
  }
  const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(head_dim) + eps);
#pragma unroll
  for (int n = 0; n < kPairsPerLane; ++n) {
    head.low[n] *= factor;
    head.high[n] *= factor;
  }
  return head;
}

struct RowContext {
  const float* cos;  // [pairs] shared
  const float* sin;
  int head_dim;
  int pairs;
};

__device__ void multiply(Head& head, const bf16* weight, int head_dim) {
  for_each_pair(head_dim, [&](int n, int i) {
    head.low[n] *= to_float(weight[i]);
    head.high[n] *= to_float(weight[i + head_dim / 2]);
  });
}

__device__ void rotate(Head& head, const RowContext& c) {
  for_each_pair(c.head_dim, [&](int n, int i) {
    if (i >= c.pairs) return;
    const float low = head.low[n];
    head.low[n] = low * c.cos[i] - head.high[n] * c.sin[i];
    head.high[n] = head.high[n] * c.cos[i] + low * c.sin[i];
  });
}

__device__ void write(const Head& head, int head_dim, bf16* to) {
  for_each_pair(head_dim, [&](int n, int i) {
    to[i] = from_float<bf16>(head.low[n]);
    to[i + head_dim / 2] = from_float<bf16>(head.high[n]);
  });
}

// On global layers the norm of k is folded into the numbers of q that are not rotated.
__device__ void fold_key_norm(Head& head, const RowContext& c, const bf16* k_norm) {
  for_each_pair(c.head_dim, [&](int n, int i) {
    if (i < c.pairs) return;
    head.low[n] *= to_float(k_norm[i]);
    head.high[n] *= to_float(k_norm[i + c.head_dim / 2]);
  });
}

// V = head (normed without weight), and the rotated part of K made from it.
__device__ void write_global(Head& head, const RowContext& c, const bf16* k_norm, bf16* entry) {
  write(head, c.head_dim, entry);
  multiply(head, k_norm, c.head_dim);
  rotate(head, c);
  for_each_pair(c.head_dim, [&](int n, int i) {
    if (i >= c.pairs) return;
    entry[c.head_dim + i] = from_float<bf16>(head.low[n]);
    entry[c.head_dim + c.pairs + i] = from_float<bf16>(head.high[n]);
  });
}

// Query head, key head or value head number `unit` of a row, by one warp.
__device__ void write_unit(const AttentionInputsArgs& args, const RowContext& c, int row,
                           int position, int unit) {
  const AttentionShape& shape = args.shape;
  const bool is_global = shape.window == 0;
  const int64_t d = shape.head_dim;
  const float eps = shape.rms_norm_eps;
  const auto* k_norm = reinterpret_cast<const bf16*>(args.k_norm);
  if (unit < shape.num_heads) {
    const int64_t at = (int64_t{row} * shape.num_heads + unit) * d;
    Head head = normed_head(args.q_projected + at, c.head_dim, eps);
    multiply(head, reinterpret_cast<const bf16*>(args.q_norm), c.head_dim);
    rotate(head, c);
    if (is_global) fold_key_norm(head, c, k_norm);
    write(head, c.head_dim, reinterpret_cast<bf16*>(args.q) + at);
    return;
  }
  const bool is_value = unit >= shape.num_heads + shape.num_kv_heads;
  const int kv_head = unit - shape.num_heads - (is_value ? shape.num_kv_heads : 0);
  const int64_t at = (int64_t{row} * shape.num_kv_heads + kv_head) * d;
  auto* entry =
      reinterpret_cast<bf16*>(args.cache.entry(args.row_segments[row], kv_head, position));
  Head head = normed_head((is_value ? args.v_projected : args.k_projected) + at, c.head_dim, eps);
  if (is_value) {
    write(head, c.head_dim, entry + args.cache.value_offset);
  } else if (is_global) {
    write_global(head, c, k_norm, entry);
  } else {
    multiply(head, k_norm, c.head_dim);
    rotate(head, c);
    write(head, c.head_dim, entry);
  }
}

// Block (row, part of its heads), a warp a head.
__global__ void __launch_bounds__(kThreads)
    attention_inputs_kernel(AttentionInputsArgs args, InvFreq inv_freq) {
  let_next_kernel_start();
  __shared__ float cos_sin[2][kMaxRotaryPairs];
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
  wait_for_earlier_kernels();
  const RowContext c = {cos_sin[0], cos_sin[1], shape.head_dim, pairs};
  const int num_units = shape.num_heads + shape.num_kv_heads * (shape.window == 0 ? 1 : 2);
  const int stride = static_cast<int>(gridDim.y) * kNumWarps;
  for (int unit = static_cast<int>(blockIdx.y) * kNumWarps + warp_idx(); unit < num_units;
       unit += stride) {
    write_unit(args, c, row, position, unit);
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
  // Few rows: all heads at once. Many: one set of angles for all heads of a row.
  const int parts = args.num_rows <= kFewRows ? (num_units + kNumWarps - 1) / kNumWarps : 1;
  const dim3 grid(static_cast<unsigned>(args.num_rows), static_cast<unsigned>(parts));
  return launch_overlapping_kernel(attention_inputs_kernel, grid, kThreads, 0, stream, args,
                                   inv_freq);
}

}  // namespace beryl::kernels::cuda
