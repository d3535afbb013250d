// Launchers of the router and of sorting rows by expert.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/launch_stream.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kMaxRouterExperts = 1024;  // scores of a row, held by one warp
constexpr int kMaxTopK = 32;
constexpr int64_t kMaxRouterWidth = 4 * 1024;  // eight normed rows in shared memory

// scores [T, num_experts] float32: proj * (norm(x) * scale * H^-1/2), all float32 but the weights,
// because a rounding here can change the choice of experts. H a multiple of 8.
cudaError_t launch_router_scores(const RouterWeights& weights, const TensorView& x, float eps,
                                 float* scores, LaunchStream stream);

// Softmax over all experts, the top_k most probable (ties: smaller id), renormalised, scaled.
cudaError_t launch_choose_experts(const float* scores, const TensorView& per_expert_scale,
                                  const TensorView& topk_idx, const TensorView& topk_weights,
                                  LaunchStream stream);

struct GroupArgs {
  const int32_t* topk_idx = nullptr;    // [num_rows, top_k]
  const float* topk_weights = nullptr;  // [num_rows, top_k]
  const int32_t* slot_of = nullptr;     // [num_experts]
  int32_t* place = nullptr;             // [num_rows * top_k] work space
  int num_rows = 0;
  int top_k = 0;
  ExpertGroups groups;
};
cudaError_t launch_group_by_expert(const GroupArgs& args, LaunchStream stream);

}  // namespace beryl::kernels::cuda
