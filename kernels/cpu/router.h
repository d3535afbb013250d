// Choice of experts from the router's scores.
#pragma once

#include <cstdint>

namespace beryl::kernels::cpu {

struct RouterRow {
  const float* scores = nullptr;  // [num_experts]
  int num_experts = 0;
  int top_k = 0;
  const uint16_t* per_expert_scale = nullptr;  // [num_experts] bf16
  int32_t* topk_idx = nullptr;                 // [top_k] in order of probability
  float* topk_weights = nullptr;               // [top_k]
};

// Softmax over all experts, the top_k most probable (ties: smaller id), renormalised, scaled.
void choose_experts(const RouterRow& row);

}  // namespace beryl::kernels::cpu
