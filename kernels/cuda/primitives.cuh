// Device primitives: conversions and reductions in a fixed order.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/instructions.cuh"

namespace beryl::kernels::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_idx() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}
__device__ inline int warp_idx() {
  return static_cast<int>(threadIdx.x) / kWarpSize;
}

__device__ inline float to_float(float value) {
  return value;
}
__device__ inline float to_float(bf16 value) {
  return __bfloat162float(value);
}
template <typename T>
__device__ inline T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline bf16 from_float<bf16>(float value) {
  return __float2bfloat16_rn(value);
}

// Sum over the warp; every lane gets the same bits (a + b = b + a at every level).
template <typename T>
__device__ inline T warp_sum(T value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}

// Sums over the block; every thread gets the same bits. `scratch` holds one entry a warp and may be
// reused after the next __syncthreads() of the caller; two calls in a row are safe.
__device__ inline float block_sum(float value, float* scratch) {
  const float sum = warp_sum(value);
  __syncthreads();  // nobody still reads the sums of the call before
  if (lane_idx() == 0) scratch[warp_idx()] = sum;
  __syncthreads();
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  return warp_sum(lane_idx() < num_warps ? scratch[lane_idx()] : 0.0f);
}
__device__ inline float2 block_sum(float2 value, float2* scratch) {
  const float2 sum = make_float2(warp_sum(value.x), warp_sum(value.y));
  __syncthreads();
  if (lane_idx() == 0) scratch[warp_idx()] = sum;
  __syncthreads();
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  const float2 mine = lane_idx() < num_warps ? scratch[lane_idx()] : make_float2(0, 0);
  return make_float2(warp_sum(mine.x), warp_sum(mine.y));
}

// to [n] = x * (mean(x^2) + eps)^-1/2 * weight (null: ones), by one warp; `to` is shared memory.
__device__ inline void norm_head(const float* x, const bf16* weight, int n, float eps, float* to) {
  float sum = 0;
  for (int i = lane_idx(); i < n; i += kWarpSize) sum += x[i] * x[i];
  const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(n) + eps);
  __syncwarp();
  for (int i = lane_idx(); i < n; i += kWarpSize) {
    to[i] = x[i] * factor * (weight == nullptr ? 1.0f : to_float(weight[i]));
  }
  __syncwarp();
}

__device__ inline float gelu_tanh(float z) {
  // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), to about 1e-6 of the result.
  const float u = 0.7978845608028654f * (z + 0.044715f * z * z * z);
  return __fdividef(z, 1.0f + exp2_fast(-2.0f * 1.4426950408889634f * u));
}

}  // namespace beryl::kernels::cuda
