#include "kernels/cuda/routing.h"

#include <math_constants.h>

#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kMaxLaneExperts = kMaxRouterExperts / kWarpSize;
constexpr int kFewLaneExperts = 4;
constexpr int kFewRows = 256;  // up to which a row has a block of its own

// The lane's share of the sum of squares of a row.
__device__ float lane_squares(const RouterScores& scores, int row) {
  float sum = 0;
  for (int part = lane_idx(); part < scores.num_parts; part += kWarpSize) {
    sum += scores.squares[int64_t{part} * scores.num_rows + row];
  }
  return sum;
}

// H^-1/2 (mean(x^2) + eps)^-1/2
__device__ float norm_factor(const RouterScores& scores, float squares) {
  const auto width = static_cast<float>(scores.width);
  return 1.0f / sqrtf(squares / width + scores.eps) / sqrtf(width);
}

// Scores of experts lane, lane + 32, ... of a row, by kRowWarps warps; only the first has them all.
// Parts are added in a fixed order.
template <int kLaneExperts, int kRowWarps>
__device__ void add_parts(const RouterScores& scores, int row, float (&sums)[kLaneExperts]) {
  const int64_t stride = int64_t{scores.num_rows} * scores.num_experts;
  const float* from = scores.dots + int64_t{row} * scores.num_experts;
#pragma unroll
  for (int j = 0; j < kLaneExperts; ++j) sums[j] = 0;
  // Parts loaded before any of them is added.
  constexpr int kLoads = kLaneExperts == kFewLaneExperts ? 8 : 1;
  const int first = kRowWarps == 1 ? 0 : warp_idx();
  for (int base = first; base < scores.num_parts; base += kRowWarps * kLoads) {
    float loaded[kLoads][kLaneExperts];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int part = base + i * kRowWarps;
#pragma unroll
      for (int j = 0; j < kLaneExperts; ++j) {
        const int expert = lane_idx() + j * kWarpSize;
        const bool is_valid = part < scores.num_parts && expert < scores.num_experts;
        loaded[i][j] = is_valid ? from[part * stride + expert] : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
#pragma unroll
      for (int j = 0; j < kLaneExperts; ++j) sums[j] += loaded[i][j];
    }
  }
  if constexpr (kRowWarps > 1) {
    __shared__ float partial[kRowWarps][kLaneExperts * kWarpSize];
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) {
      partial[warp_idx()][lane_idx() + j * kWarpSize] = sums[j];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) {
      for (int w = 1; w < kRowWarps && warp_idx() == 0; ++w) {
        sums[j] += partial[w][lane_idx() + j * kWarpSize];
      }
    }
  }
}

// kRowWarps warps a row; lane l of the first chooses among experts l, l + 32, ...
template <int kLaneExperts, int kRowWarps>
__global__ void __launch_bounds__(kThreads)
    choose_experts_kernel(RouterScores scores, const bf16* per_expert_scale, int top_k,
                          int32_t* topk_idx, float* topk_weights) {
  begin_overlapping_kernel();
  const int row = (static_cast<int>(blockIdx.x) * kNumWarps + warp_idx()) / kRowWarps;
  const int num_experts = scores.num_experts;
  if (row >= scores.num_rows) return;
  const int lane = lane_idx();
  const float squares = lane_squares(scores, row);
  float p[kLaneExperts];
  add_parts<kLaneExperts, kRowWarps>(scores, row, p);
  if (kRowWarps > 1 && warp_idx() > 0) return;
  const float factor = norm_factor(scores, warp_sum(squares));
  float top = -CUDART_INF_F;
#pragma unroll
  for (int j = 0; j < kLaneExperts; ++j) {
    p[j] = lane + j * kWarpSize < num_experts ? factor * p[j] : -CUDART_INF_F;
    top = fmaxf(top, p[j]);
  }
  for (int d = kWarpSize / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, d));
  float total = 0;
#pragma unroll
  for (int j = 0; j < kLaneExperts; ++j) {
    const bool is_expert = lane + j * kWarpSize < num_experts;
    p[j] = is_expert ? expf(p[j] - top) : 0.0f;
    total += p[j];
  }
  total = warp_sum(total);
  // Bits of a probability have its order. No order with a NaN: last of the real experts.
  constexpr int kNone = -2;
  constexpr int kNan = -1;
  int order[kLaneExperts];
#pragma unroll
  for (int j = 0; j < kLaneExperts; ++j) {
    p[j] /= total;
    order[j] = isnan(p[j]) ? kNan : __float_as_int(p[j]);
    if (lane + j * kWarpSize >= num_experts) order[j] = kNone;
  }
  float chosen = 0;
  float my_p = 0;
  int my_expert = 0;
  for (int k = 0; k < top_k; ++k) {
    int best = kNone;
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) best = max(best, order[j]);
    best = __reduce_max_sync(kAllLanes, best);
    int expert = kMaxRouterExperts;
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) {
      if (order[j] == best) expert = min(expert, lane + j * kWarpSize);
    }
    expert = __reduce_min_sync(kAllLanes, expert);
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) {
      if (lane + j * kWarpSize == expert) order[j] = kNone;
    }
    const float value = best == kNan ? CUDART_NAN_F : __int_as_float(best);
    chosen += value;
    if (lane == k) {
      my_p = value;
      my_expert = expert;
    }
  }
  if (lane < top_k) {
    topk_idx[int64_t{row} * top_k + lane] = my_expert;
    topk_weights[int64_t{row} * top_k + lane] =
        my_p / chosen * to_float(per_expert_scale[my_expert]);
  }
}

template <int kLaneExperts, int kRowWarps>
cudaError_t launch_choose(const RouterScores& scores, const TensorView& per_expert_scale,
                          const TensorView& topk_idx, const TensorView& topk_weights,
                          LaunchStream stream) {
  constexpr int kBlockRows = kNumWarps / kRowWarps;
  const auto blocks = static_cast<unsigned>((scores.num_rows + kBlockRows - 1) / kBlockRows);
  return launch_overlapping_kernel(
      choose_experts_kernel<kLaneExperts, kRowWarps>, blocks, kThreads, 0, stream, scores,
      reinterpret_cast<const bf16*>(per_expert_scale.bf16()), static_cast<int>(topk_idx.shape[1]),
      topk_idx.as<int32_t>(), topk_weights.f32());
}

}  // namespace

cudaError_t launch_choose_experts(const RouterScores& scores, const TensorView& per_expert_scale,
                                  const TensorView& topk_idx, const TensorView& topk_weights,
                                  LaunchStream stream) {
  if (scores.num_rows == 0) return cudaSuccess;
  const bool is_few = scores.num_rows <= kFewRows;
  const auto launch =
      scores.num_experts > kFewLaneExperts * kWarpSize
          ? is_few ? launch_choose<kMaxLaneExperts, kNumWarps> : launch_choose<kMaxLaneExperts, 1>
      : is_few ? launch_choose<kFewLaneExperts, kNumWarps>
               : launch_choose<kFewLaneExperts, 1>;
  return launch(scores, per_expert_scale, topk_idx, topk_weights, stream);
}

}  // namespace beryl::kernels::cuda
