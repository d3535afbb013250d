// Launchers of the router and of sorting rows by expert.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/launch_stream.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

constexpr int kMaxRouterExperts = 1024;  // scores of a row, held by one warp
constexpr int kMaxTopK = 32;

// What the products of a router leave: parts over K, added by launch_choose_experts, because a row
// has too few experts to fill a GPU otherwise. All float32 but the weights: a rounding here can
// change the choice of experts. The tensor cores get x * scale as three bf16 numbers, exactly.
struct RouterScores {
  float* dots = nullptr;     // [num_parts, num_rows, num_experts] proj * (x * scale)
  float* squares = nullptr;  // [num_parts, num_rows] x^2
  int num_parts = 0;
  int num_rows = 0;
  int num_experts = 0;
  int width = 0;  // H, a multiple of 8
  float eps = 0;
};
// num_parts for a device of so many multiprocessors.
int router_parts(int64_t num_rows, int64_t num_experts, int64_t width, int num_sms);

// Softmax over all experts, the top_k most probable (ties: smaller id), renormalised, scaled.
struct RouterChoice {
  const __nv_bfloat16* per_expert_scale = nullptr;  // [num_experts]
  int top_k = 0;
  int32_t* topk_idx = nullptr;    // [num_rows, top_k]
  float* topk_weights = nullptr;  // [num_rows, top_k]
};
cudaError_t launch_choose_experts(const RouterScores& scores, const RouterChoice& choice,
                                  LaunchStream stream);

struct GroupArgs {
  const int32_t* topk_idx = nullptr;    // [num_rows, top_k]
  const float* topk_weights = nullptr;  // [num_rows, top_k]
  const int32_t* slot_of = nullptr;     // [num_experts]
  int32_t* tile_counts = nullptr;       // [group_work_ints()] work space
  int num_rows = 0;
  int top_k = 0;
  ExpertGroups groups;
};
int64_t group_work_ints(int num_rows, int top_k, int num_slots);
cudaError_t launch_group_by_expert(const GroupArgs& args, LaunchStream stream);

// What the block that ends last of the products of a few rows does at once: the choice, and sorting
// by expert.
struct RouterTail {
  RouterChoice choice;
  GroupArgs group;              // of the rows chosen for; without topk_idx: not wanted
  unsigned* tickets = nullptr;  // one, 0 between launches; null: no tail
};
bool can_have_router_tail(int64_t num_rows, int64_t num_experts, int64_t top_k);
cudaError_t launch_router_scores(const RouterWeights& weights, const float* x,
                                 const RouterScores& scores, const RouterTail& tail,
                                 LaunchStream stream);

}  // namespace beryl::kernels::cuda
