// The choice of experts from the parts that the products of a router leave (RouterScores).
#pragma once

#include <math_constants.h>

#include "kernels/cuda/primitives.cuh"
#include "kernels/cuda/routing.h"

namespace beryl::kernels::cuda {

constexpr int kChoiceThreads = 256;
constexpr int kChoiceWarps = kChoiceThreads / kWarpSize;
constexpr int kMaxLaneExperts = kMaxRouterExperts / kWarpSize;
constexpr int kFewLaneExperts = 4;
constexpr int kFewExperts = kFewLaneExperts * kWarpSize;

template <int kLaneExperts>
using ChoicePartials = float[kChoiceWarps][kLaneExperts * kWarpSize];

// The lane's share of the sum of squares of a row.
__device__ inline float lane_squares(const RouterScores& scores, int row) {
  float sum = 0;
  for (int part = lane_idx(); part < scores.num_parts; part += kWarpSize) {
    sum += __ldcg(&scores.squares[int64_t{part} * scores.num_rows + row]);
  }
  return sum;
}

// H^-1/2 (mean(x^2) + eps)^-1/2
__device__ inline float router_norm_factor(const RouterScores& scores, float squares) {
  const auto width = static_cast<float>(scores.width);
  return 1.0f / sqrtf(squares / width + scores.eps) / sqrtf(width);
}

// Sums of parts first, first + step, ... of a row, for experts lane, lane + 32, ...
template <int kLaneExperts>
__device__ void add_parts(const RouterScores& scores, int row, int first, int step,
                          float (&sums)[kLaneExperts]) {
  const int64_t stride = int64_t{scores.num_rows} * scores.num_experts;
  const float* from = scores.dots + int64_t{row} * scores.num_experts;
#pragma unroll
  for (int j = 0; j < kLaneExperts; ++j) sums[j] = 0;
  // Parts loaded before any of them is added.
  constexpr int kLoads = kLaneExperts == kFewLaneExperts ? 8 : 1;
  for (int base = first; base < scores.num_parts; base += step * kLoads) {
    float loaded[kLoads][kLaneExperts];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int part = base + i * step;
#pragma unroll
      for (int j = 0; j < kLaneExperts; ++j) {
        const int expert = lane_idx() + j * kWarpSize;
        const bool is_valid = part < scores.num_parts && expert < scores.num_experts;
        loaded[i][j] = is_valid ? __ldcg(&from[part * stride + expert]) : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
#pragma unroll
      for (int j = 0; j < kLaneExperts; ++j) sums[j] += loaded[i][j];
    }
  }
}

// Chooses for one row, by one warp: p holds the scores of experts lane, lane + 32, ... Lane k gets
// the k-th expert and its weight.
struct Chosen {
  int expert = 0;
  float weight = 0;
};
template <int kLaneExperts>
__device__ Chosen choose_of_warp(float (&p)[kLaneExperts], float factor, int num_experts, int top_k,
                                 const bf16* per_expert_scale) {
  const int lane = lane_idx();
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
  if (lane >= top_k) return {};
  return {my_expert, my_p / chosen * to_float(per_expert_scale[my_expert])};
}

// Chooses for rows first_row .. first_row + kChoiceWarps / row_warps - 1, row_warps warps each;
// called by all threads of a block of kChoiceThreads. Parts are added in a fixed order. ids, if not
// null, gets the experts of the rows too.
template <int kLaneExperts>
__device__ void choose_rows(const RouterScores& scores, const RouterChoice& choice, int first_row,
                            int row_warps, ChoicePartials<kLaneExperts>& partials, int32_t* ids) {
  const int local_row = warp_idx() / row_warps;
  const int row = first_row + local_row;
  const bool is_row = row < scores.num_rows;
  const int first = warp_idx() % row_warps;
  float squares = 0;
  float sums[kLaneExperts];
  if (is_row) {
    squares = lane_squares(scores, row);
    add_parts(scores, row, first, row_warps, sums);
  }
  if (row_warps > 1) {
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) {
      if (is_row) partials[warp_idx()][lane_idx() + j * kWarpSize] = sums[j];
    }
    __syncthreads();
  }
  if (!is_row || first != 0) return;
  for (int w = 1; w < row_warps; ++w) {
#pragma unroll
    for (int j = 0; j < kLaneExperts; ++j) {
      sums[j] += partials[warp_idx() + w][lane_idx() + j * kWarpSize];
    }
  }
  const Chosen chosen = choose_of_warp(sums, router_norm_factor(scores, warp_sum(squares)),
                                       scores.num_experts, choice.top_k, choice.per_expert_scale);
  if (lane_idx() >= choice.top_k) return;
  const int64_t to = int64_t{row} * choice.top_k + lane_idx();
  choice.topk_idx[to] = chosen.expert;
  choice.topk_weights[to] = chosen.weight;
  if (ids != nullptr) ids[local_row * choice.top_k + lane_idx()] = chosen.expert;
}

}  // namespace beryl::kernels::cuda
