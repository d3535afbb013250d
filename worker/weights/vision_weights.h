// The weights of the vision tower and of the projection into the decoder, the same on every rank.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "worker/model/model_config.h"

namespace beryl::weights {

struct VisionLayerWeights {
  kernels::TensorView input_layernorm;            // [H]
  kernels::AttentionWeights attention;            // q, k, v projections, q and k norms
  kernels::TensorView o_proj;                     // [H, num_heads * head_dim]
  kernels::TensorView post_attention_layernorm;   // [H]
  kernels::TensorView pre_feedforward_layernorm;  // [H]
  kernels::GatedMlpWeights mlp;
  kernels::TensorView post_feedforward_layernorm;  // [H]
};

// H is the width of the tower.
struct VisionWeights {
  kernels::TensorView patch_proj;      // [H, 3 * patch_size^2]
  kernels::TensorView position_table;  // [2, position_embedding_size, H] columns, then rows
  std::vector<VisionLayerWeights> layers;
  kernels::TensorView std_bias;              // [H]; empty without `standardize`
  kernels::TensorView std_scale;             // the same
  kernels::TensorView embedding_projection;  // [hidden_size of the decoder, H]
};

// Gives the view of a tensor by its published name.
using FindTensor = std::function<kernels::TensorView(const std::string& name)>;

VisionWeights assemble_vision(const model::VisionConfig& config, const FindTensor& find);

}  // namespace beryl::weights
