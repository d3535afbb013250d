// Attention for any head size: a warp per row and head walks over the keys one by one. Plain, in
// float32 but for the cache; also what the tensor core kernel is compared with at sizes that a CPU
// would take too long for.
#include <math_constants.h>

#include "kernels/check.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kMaxLaneDims = 16;  // head sizes up to 512

__global__ void __launch_bounds__(kThreads) generic_attention_kernel(AttentionArgs args) {
  const int unit = static_cast<int>(blockIdx.x) * kNumWarps + warp_idx();
  const AttentionShape& shape = args.shape;
  if (unit >= args.num_rows * shape.num_heads) return;
  const int row = unit / shape.num_heads;
  const int head = unit % shape.num_heads;
  const int kv_head = head / (shape.num_heads / shape.num_kv_heads);
  const int d = shape.head_dim;
  const int half = d / 2;
  const int pairs = shape.rotary_dim / 2;
  const bool is_global = shape.window == 0;
  const int position = args.positions[row];
  const int first = is_global ? 0 : max(0, position - shape.window + 1);
  const int last = is_global || args.visible_end == nullptr ? position : args.visible_end[row];

  float q[kMaxLaneDims];
  float sums[kMaxLaneDims];
  int key_at[kMaxLaneDims];  // where the number of K that belongs to a dimension lies in an entry
#pragma unroll
  for (int j = 0; j < kMaxLaneDims; ++j) {
    const int i = lane_idx() + j * kWarpSize;
    q[j] = i < d ? to_float(reinterpret_cast<const bf16*>(args.q)[int64_t{unit} * d + i]) : 0.0f;
    sums[j] = 0;
    key_at[j] = i;
    if (is_global && i < pairs) key_at[j] = d + i;
    if (is_global && i >= half && i - half < pairs) key_at[j] = d + pairs + i - half;
  }
  float top = -CUDART_INF_F;
  float total = 0;
  for (int p = first; p <= last; ++p) {
    const auto* entry =
        reinterpret_cast<const bf16*>(args.cache.entry(args.row_segments[row], kv_head, p));
    float score = 0;
#pragma unroll
    for (int j = 0; j < kMaxLaneDims; ++j) {
      if (lane_idx() + j * kWarpSize < d) score += q[j] * to_float(entry[key_at[j]]);
    }
    score = warp_sum(score);
    const float new_top = fmaxf(top, score);
    const float factor = expf(top - new_top);
    const float weight = expf(score - new_top);
    total = total * factor + weight;
    top = new_top;
#pragma unroll
    for (int j = 0; j < kMaxLaneDims; ++j) {
      const int i = lane_idx() + j * kWarpSize;
      if (i < d) sums[j] = sums[j] * factor + weight * to_float(entry[args.cache.value_offset + i]);
    }
  }
#pragma unroll
  for (int j = 0; j < kMaxLaneDims; ++j) {
    const int i = lane_idx() + j * kWarpSize;
    if (i < d) {
      reinterpret_cast<bf16*>(args.out)[int64_t{unit} * d + i] = from_float<bf16>(sums[j] / total);
    }
  }
}

}  // namespace

cudaError_t launch_generic_attention(const AttentionArgs& args, LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  BERYL_CHECK(args.shape.head_dim <= kMaxLaneDims * kWarpSize);
  const int units = args.num_rows * args.shape.num_heads;
  return launch_kernel(generic_attention_kernel,
                       static_cast<unsigned>((units + kNumWarps - 1) / kNumWarps), kThreads, 0,
                       stream, args);
}

}  // namespace beryl::kernels::cuda
