// Attention within pictures for any head size: a warp per patch and head, 32 keys at a time, a lane
// each. Plain, in float32 but for its inputs; also what the tensor core kernel is compared with.
#include <math_constants.h>

#include "kernels/check.h"
#include "kernels/cuda/patch_grid.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kMaxLaneDims = kMaxPatchHeadDim / kWarpSize;

__device__ float warp_max(float value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

__global__ void __launch_bounds__(kThreads)
    generic_patch_attention_kernel(PatchAttentionArgs args) {
  __shared__ float queries[kNumWarps][kMaxPatchHeadDim];
  __shared__ float weights[kNumWarps][kWarpSize];
  const int unit = static_cast<int>(blockIdx.x) * kNumWarps + warp_idx();
  if (unit >= args.grids.num_patches * args.num_heads) return;  // no barrier of the block below
  const DeviceGrid grid = grid_of_patch(args.grids, unit / args.num_heads);
  const int num_keys = grid.height * grid.width;
  const int d = args.head_dim;
  const int64_t pitch = int64_t{args.num_heads} * d;
  const int64_t first = grid.first_patch * pitch + int64_t{unit % args.num_heads} * d;
  const bf16* keys = reinterpret_cast<const bf16*>(args.k) + first;
  const bf16* values = reinterpret_cast<const bf16*>(args.v) + first;
  float* q = queries[warp_idx()];
  float* weight = weights[warp_idx()];
  for (int i = lane_idx(); i < d; i += kWarpSize) {
    q[i] = to_float(reinterpret_cast<const bf16*>(args.q)[int64_t{unit} * d + i]);
  }
  __syncwarp();
  float sums[kMaxLaneDims] = {};
  float top = -CUDART_INF_F;
  float total = 0;
  for (int begin = 0; begin < num_keys; begin += kWarpSize) {
    const int count = min(kWarpSize, num_keys - begin);
    float score = -CUDART_INF_F;
    if (lane_idx() < count) {
      const bf16* key = keys + (begin + lane_idx()) * pitch;
      score = 0;
      for (int i = 0; i < d; ++i) score += q[i] * to_float(key[i]);
    }
    const float new_top = fmaxf(top, warp_max(score));
    const float factor = expf(top - new_top);
    weight[lane_idx()] = expf(score - new_top);
    total = total * factor + warp_sum(weight[lane_idx()]);
    top = new_top;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kMaxLaneDims; ++j) {
      const int i = lane_idx() + j * kWarpSize;
      if (i >= d) continue;
      sums[j] *= factor;
      for (int key = 0; key < count; ++key) {
        sums[j] += weight[key] * to_float(values[(begin + key) * pitch + i]);
      }
    }
    __syncwarp();  // the weights have been read
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

cudaError_t launch_generic_patch_attention(const PatchAttentionArgs& args, cudaStream_t stream) {
  if (args.grids.num_patches == 0) return cudaSuccess;
  BERYL_CHECK(args.head_dim <= kMaxPatchHeadDim);
  const int units = args.grids.num_patches * args.num_heads;
  return launch_kernel(generic_patch_attention_kernel,
                       static_cast<unsigned>((units + kNumWarps - 1) / kNumWarps), kThreads, 0,
                       stream, args);
}

}  // namespace beryl::kernels::cuda
