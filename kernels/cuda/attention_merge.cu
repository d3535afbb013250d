// The results of splits of keys become one: out = sum_s exp(top_s - top) sums_s / the same sum of
// totals, in an order that depends on the number of splits alone.
#include <math_constants.h>

#include "kernels/check.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kNumWarps = 4;
constexpr int kThreads = kNumWarps * kWarpSize;
constexpr int kLaneDims = 4;
constexpr int kBlockDims = kWarpSize * kLaneDims;
constexpr int kLoads = 4;  // in flight a thread

// Block (row and head, part of the dimensions). Warp w adds the splits w, w + kNumWarps, ... Only
// rows of the pass's segments were computed.
__global__ void __launch_bounds__(kThreads)
    merge_splits_kernel(AttentionArgs args, AttentionPass pass, AttentionPartials partials) {
  __shared__ float weights[kMaxSplits];
  __shared__ float scratch[kNumWarps];
  __shared__ float4 warp_sums[kNumWarps][kWarpSize];
  const int64_t result = blockIdx.x;
  const int64_t row = result / args.shape.num_heads;
  let_next_kernel_start();
  const int segment = args.row_segments[row];
  const int rows = args.query_start_loc[segment + 1] - args.query_start_loc[segment];
  wait_for_earlier_kernels();
  if (rows < pass.min_rows || rows > pass.max_rows) return;

  const int64_t stride = int64_t{args.num_rows} * args.shape.num_heads;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = warp_idx();
  float2 mine[kMaxSplits / kThreads];
  float top = -CUDART_INF_F;
#pragma unroll
  for (int i = 0; i < kMaxSplits / kThreads; ++i) {
    const int s = thread + i * kThreads;
    mine[i] = make_float2(-CUDART_INF_F, 0);
    if (s < pass.num_splits) mine[i] = partials.top_total[s * stride + result];
    top = fmaxf(top, mine[i].x);
  }
#pragma unroll
  for (int d = kWarpSize / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, d));
  if (lane_idx() == 0) scratch[warp] = top;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kNumWarps; ++w) top = fmaxf(top, scratch[w]);
  float total = 0;
#pragma unroll
  for (int i = 0; i < kMaxSplits / kThreads; ++i) {
    const int s = thread + i * kThreads;
    const float weight = __expf(mine[i].x - top);  // 0 without keys: `top` is a number
    if (s < pass.num_splits) weights[s] = weight;
    total += weight * mine[i].y;
  }
  total = block_sum(total, scratch);

  const int dim = static_cast<int>(blockIdx.y) * kBlockDims + lane_idx() * kLaneDims;
  const float* from = partials.sums + result * args.shape.head_dim + dim;
  float4 sum = make_float4(0, 0, 0, 0);
  for (int first = warp; first < pass.num_splits; first += kNumWarps * kLoads) {
    float4 values[kLoads];
    float weight[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int s = first + i * kNumWarps;
      weight[i] = s < pass.num_splits ? weights[s] : 0.0f;
      values[i] = make_float4(0, 0, 0, 0);
      if (weight[i] != 0) {
        values[i] = *reinterpret_cast<const float4*>(from + s * stride * args.shape.head_dim);
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      sum.x += weight[i] * values[i].x;
      sum.y += weight[i] * values[i].y;
      sum.z += weight[i] * values[i].z;
      sum.w += weight[i] * values[i].w;
    }
  }
  warp_sums[warp][lane_idx()] = sum;
  __syncthreads();
  if (thread >= kBlockDims) return;
  float value = 0;
#pragma unroll
  for (int w = 0; w < kNumWarps; ++w) value += reinterpret_cast<const float*>(warp_sums[w])[thread];
  reinterpret_cast<bf16*>(
      args.out)[result * args.shape.head_dim + static_cast<int>(blockIdx.y) * kBlockDims + thread] =
      from_float<bf16>(value / total);
}

}  // namespace

cudaError_t launch_merge_splits(const AttentionArgs& args, const AttentionPass& pass,
                                const AttentionPartials& partials, LaunchStream stream) {
  BERYL_CHECK(pass.num_splits <= kMaxSplits && args.shape.head_dim % kBlockDims == 0);
  const dim3 grid(static_cast<unsigned>(args.num_rows * args.shape.num_heads),
                  static_cast<unsigned>(args.shape.head_dim / kBlockDims));
  return launch_overlapping_kernel(merge_splits_kernel, grid, kThreads, 0, stream, args, pass,
                                   partials);
}

}  // namespace beryl::kernels::cuda
