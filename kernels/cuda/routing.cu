#include "kernels/cuda/routing.h"

#include <math_constants.h>

#include "kernels/cuda/primitives.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kNumWarps = kThreads / kWarpSize;
constexpr int kMaxLaneExperts = kMaxRouterExperts / kWarpSize;

// normed[r] = norm(row r) * scale * H^-1/2 for the rows [first, first + count) of the block.
__device__ void norm_rows(const float* x, const bf16* scale, int n, float eps, int count,
                          float* normed, float* scratch) {
  const float root = 1.0f / sqrtf(static_cast<float>(n));
  for (int r = 0; r < count; ++r) {
    const float* from = x + int64_t{r} * n;
    float sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) sum += from[i] * from[i];
    const float factor = 1.0f / sqrtf(block_sum(sum, scratch) / static_cast<float>(n) + eps);
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
      normed[r * n + i] = from[i] * factor * (to_float(scale[i]) * root);
    }
  }
  __syncthreads();
}

// Block (kRows rows, experts); a warp an expert at a time.
template <int kRows>
__global__ void __launch_bounds__(kThreads)
    router_scores_kernel(const float* x, const bf16* proj, const bf16* scale, int num_rows, int n,
                         int num_experts, int experts_per_block, float eps, float* scores) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(float, normed);  // [kRows, n]
  __shared__ float scratch[kNumWarps];
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int rows = min(kRows, num_rows - first_row);
  norm_rows(x + int64_t{first_row} * n, scale, n, eps, rows, normed, scratch);
  const int first = static_cast<int>(blockIdx.y) * experts_per_block;
  const int end = min(first + experts_per_block, num_experts);
  for (int expert = first + warp_idx(); expert < end; expert += kNumWarps) {
    const bf16* weight = proj + int64_t{expert} * n;
    float dot[kRows] = {};
    for (int i = lane_idx() * 8; i < n; i += kWarpSize * 8) {
      const uint4 packed = __ldg(reinterpret_cast<const uint4*>(weight + i));
      const auto* w = reinterpret_cast<const bf16*>(&packed);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) break;
        const float4 a = *reinterpret_cast<const float4*>(normed + r * n + i);
        const float4 b = *reinterpret_cast<const float4*>(normed + r * n + i + 4);
        dot[r] += to_float(w[0]) * a.x + to_float(w[1]) * a.y + to_float(w[2]) * a.z +
                  to_float(w[3]) * a.w + to_float(w[4]) * b.x + to_float(w[5]) * b.y +
                  to_float(w[6]) * b.z + to_float(w[7]) * b.w;
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = warp_sum(dot[r]);
      if (r < rows && lane_idx() == 0) {
        scores[int64_t{first_row + r} * num_experts + expert] = sum;
      }
    }
  }
}

struct Best {
  float p;
  int expert;
};

__device__ bool comes_before(const Best& a, const Best& b) {
  return a.p != b.p ? a.p > b.p : a.expert < b.expert;
}

// A warp a row; lane l holds experts l, l + 32, ...
__global__ void __launch_bounds__(kThreads)
    choose_experts_kernel(const float* scores, const bf16* per_expert_scale, int num_rows,
                          int num_experts, int top_k, int32_t* topk_idx, float* topk_weights) {
  begin_overlapping_kernel();
  const int row = static_cast<int>(blockIdx.x) * kNumWarps + warp_idx();
  if (row >= num_rows) return;
  const int lane = lane_idx();
  const float* from = scores + int64_t{row} * num_experts;
  float p[kMaxLaneExperts];
  float top = -CUDART_INF_F;
#pragma unroll
  for (int j = 0; j < kMaxLaneExperts; ++j) {
    const int expert = lane + j * kWarpSize;
    p[j] = expert < num_experts ? from[expert] : -CUDART_INF_F;
    top = fmaxf(top, p[j]);
  }
  for (int d = kWarpSize / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, d));
  float total = 0;
#pragma unroll
  for (int j = 0; j < kMaxLaneExperts; ++j) {
    const bool is_expert = lane + j * kWarpSize < num_experts;
    p[j] = is_expert ? expf(p[j] - top) : 0.0f;
    total += p[j];
  }
  total = warp_sum(total);
#pragma unroll
  for (int j = 0; j < kMaxLaneExperts; ++j) {
    p[j] /= total;
    if (lane + j * kWarpSize >= num_experts) p[j] = -3.0f;  // never chosen
    if (isnan(p[j])) p[j] = -1.0f;  // no order with a NaN: last of the real ones
  }
  float chosen = 0;
  float my_p = 0;
  int my_expert = 0;
  for (int k = 0; k < top_k; ++k) {
    Best best = {-4.0f, 0x7fffffff};
#pragma unroll
    for (int j = 0; j < kMaxLaneExperts; ++j) {
      const Best mine = {p[j], lane + j * kWarpSize};
      if (comes_before(mine, best)) best = mine;
    }
    for (int d = kWarpSize / 2; d > 0; d /= 2) {
      const Best other = {__shfl_xor_sync(kAllLanes, best.p, d),
                          __shfl_xor_sync(kAllLanes, best.expert, d)};
      if (comes_before(other, best)) best = other;
    }
#pragma unroll
    for (int j = 0; j < kMaxLaneExperts; ++j) {
      if (lane + j * kWarpSize == best.expert) p[j] = -2.0f;  // taken: after a NaN
    }
    const float value = best.p == -1.0f ? CUDART_NAN_F : best.p;
    chosen += value;
    if (lane == k) {
      my_p = value;
      my_expert = best.expert;
    }
  }
  if (lane < top_k) {
    topk_idx[int64_t{row} * top_k + lane] = my_expert;
    topk_weights[int64_t{row} * top_k + lane] =
        my_p / chosen * to_float(per_expert_scale[my_expert]);
  }
}

__device__ int slot_at(const GroupArgs& args, int entry) {
  const int32_t expert = args.topk_idx[entry];
  return expert < 0 ? -1 : args.slot_of[expert];
}

// Block = slot. Counts what goes to smaller slots (its offset) and to its own, then writes its own
// entries in their order.
__global__ void __launch_bounds__(kThreads) group_kernel(GroupArgs args) {
  begin_overlapping_kernel();
  __shared__ int smaller_counts[kNumWarps];
  __shared__ int own_counts[kNumWarps];
  const int slot = static_cast<int>(blockIdx.x);
  const int num_entries = args.num_rows * args.top_k;
  int smaller = 0;
  int own = 0;
  for (int i = static_cast<int>(threadIdx.x); i < num_entries; i += kThreads) {
    const int s = slot_at(args, i);
    smaller += s >= 0 && s < slot;
    own += s == slot;
    if (slot == 0 && s < 0) args.place[i] = -1;
  }
  smaller = __reduce_add_sync(kAllLanes, smaller);
  own = __reduce_add_sync(kAllLanes, own);
  if (lane_idx() == 0) {
    smaller_counts[warp_idx()] = smaller;
    own_counts[warp_idx()] = own;
  }
  __syncthreads();
  int offset = 0;
  int count = 0;
  for (int w = 0; w < kNumWarps; ++w) {
    offset += smaller_counts[w];
    count += own_counts[w];
  }
  if (threadIdx.x == 0) {
    args.groups.expert_offsets[slot] = offset;
    if (slot + 1 == static_cast<int>(gridDim.x)) {
      args.groups.expert_offsets[slot + 1] = offset + count;
    }
    args.groups.load[slot] += count;
  }
  for (int base = 0; base < num_entries; base += kThreads) {
    const int i = base + static_cast<int>(threadIdx.x);
    const bool is_mine = i < num_entries && slot_at(args, i) == slot;
    const unsigned mine = __ballot_sync(kAllLanes, is_mine);
    __syncthreads();  // own_counts of the round before have been read
    if (lane_idx() == 0) own_counts[warp_idx()] = __popc(mine);
    __syncthreads();
    int before = __popc(mine & ((1u << lane_idx()) - 1));
    int total = 0;
    for (int w = 0; w < kNumWarps; ++w) {
      if (w < warp_idx()) before += own_counts[w];
      total += own_counts[w];
    }
    if (is_mine) {
      const int to = offset + before;
      args.groups.row_idx[to] = i / args.top_k;
      args.groups.weight[to] = args.topk_weights[i];
      args.place[i] = to;
    }
    offset += total;
  }
}

// A thread a row: its entries by expert id, those held elsewhere last.
__global__ void leaves_kernel(GroupArgs args) {
  begin_overlapping_kernel();
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row == 0) args.groups.leaf_offsets[0] = 0;
  if (row >= args.num_rows) return;
  const int first = row * args.top_k;
  int32_t ids[kMaxTopK];
  int32_t places[kMaxTopK];
  int count = 0;
  for (int k = 0; k < args.top_k; ++k) {
    const int32_t place = args.place[first + k];
    if (place < 0) continue;
    const int32_t id = args.topk_idx[first + k];
    int at = count++;
    for (; at > 0 && ids[at - 1] > id; --at) {
      ids[at] = ids[at - 1];
      places[at] = places[at - 1];
    }
    ids[at] = id;
    places[at] = place;
  }
  for (int k = 0; k < args.top_k; ++k) {
    args.groups.leaf_rows[first + k] = k < count ? places[k] : -1;
    args.groups.leaf_keys[first + k] = k < count ? ids[k] : 0;
  }
  args.groups.leaf_offsets[row + 1] = first + args.top_k;
}

}  // namespace

namespace {

template <int kRows>
cudaError_t launch_scores(const RouterWeights& weights, const TensorView& x, float eps,
                          float* scores, LaunchStream stream) {
  const auto rows = static_cast<int>(x.shape[0]);
  const auto n = static_cast<int>(x.shape[1]);
  const auto num_experts = static_cast<int>(weights.proj.shape[0]);
  // Few rows: experts are spread over the SMs.
  const int experts_per_block = rows <= 16 ? kNumWarps : rows <= 512 ? 4 * kNumWarps : num_experts;
  const dim3 grid(static_cast<unsigned>((rows + kRows - 1) / kRows),
                  static_cast<unsigned>((num_experts + experts_per_block - 1) / experts_per_block));
  const int shared_bytes = kRows * n * static_cast<int>(sizeof(float));
  return launch_overlapping_kernel(router_scores_kernel<kRows>, grid, kThreads, shared_bytes,
                                   stream, x.f32(),
                                   reinterpret_cast<const bf16*>(weights.proj.bf16()),
                                   reinterpret_cast<const bf16*>(weights.scale.bf16()), rows, n,
                                   num_experts, experts_per_block, eps, scores);
}

}  // namespace

cudaError_t launch_router_scores(const RouterWeights& weights, const TensorView& x, float eps,
                                 float* scores, LaunchStream stream) {
  if (x.shape[0] == 0) return cudaSuccess;
  return x.shape[0] <= 128 ? launch_scores<1>(weights, x, eps, scores, stream)
                           : launch_scores<8>(weights, x, eps, scores, stream);
}

cudaError_t launch_choose_experts(const float* scores, const TensorView& per_expert_scale,
                                  const TensorView& topk_idx, const TensorView& topk_weights,
                                  LaunchStream stream) {
  const auto rows = static_cast<int>(topk_idx.shape[0]);
  if (rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((rows + kNumWarps - 1) / kNumWarps);
  return launch_overlapping_kernel(choose_experts_kernel, blocks, kThreads, 0, stream, scores,
                                   reinterpret_cast<const bf16*>(per_expert_scale.bf16()), rows,
                                   static_cast<int>(per_expert_scale.shape[0]),
                                   static_cast<int>(topk_idx.shape[1]), topk_idx.as<int32_t>(),
                                   topk_weights.f32());
}

cudaError_t launch_group_by_expert(const GroupArgs& args, LaunchStream stream) {
  if (args.groups.num_local_experts > 0) {
    const auto slots = static_cast<unsigned>(args.groups.num_local_experts);
    const cudaError_t error =
        launch_overlapping_kernel(group_kernel, slots, kThreads, 0, stream, args);
    if (error != cudaSuccess) return error;
  }
  constexpr int kRowThreads = 128;
  const int blocks = args.num_rows > 0 ? (args.num_rows + kRowThreads - 1) / kRowThreads : 1;
  return launch_overlapping_kernel(leaves_kernel, static_cast<unsigned>(blocks), kRowThreads, 0,
                                   stream, args);
}

}  // namespace beryl::kernels::cuda
