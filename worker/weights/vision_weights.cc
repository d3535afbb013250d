#include "worker/weights/vision_weights.h"

#include "worker/weights/tensor_list.h"

namespace beryl::weights {

namespace {

VisionLayerWeights assemble_layer(int layer, const FindTensor& find) {
  const std::string prefix = vision_layer_prefix(layer);
  const auto get = [&](const char* name) { return find(prefix + name); };
  VisionLayerWeights weights;
  weights.input_layernorm = get("input_layernorm.weight");
  weights.attention = {.q_proj = get("self_attn.q_proj.linear.weight"),
                       .k_proj = get("self_attn.k_proj.linear.weight"),
                       .v_proj = get("self_attn.v_proj.linear.weight"),
                       .q_norm = get("self_attn.q_norm.weight"),
                       .k_norm = get("self_attn.k_norm.weight")};
  weights.o_proj = get("self_attn.o_proj.linear.weight");
  weights.post_attention_layernorm = get("post_attention_layernorm.weight");
  weights.pre_feedforward_layernorm = get("pre_feedforward_layernorm.weight");
  weights.mlp = {.gate_proj = get("mlp.gate_proj.linear.weight"),
                 .up_proj = get("mlp.up_proj.linear.weight"),
                 .down_proj = get("mlp.down_proj.linear.weight")};
  weights.post_feedforward_layernorm = get("post_feedforward_layernorm.weight");
  return weights;
}

}  // namespace

VisionWeights assemble_vision(const model::VisionConfig& config, const FindTensor& find) {
  const std::string tower = kVisionTowerPrefix;
  VisionWeights weights;
  weights.patch_proj = find(tower + "patch_embedder.input_proj.weight");
  weights.position_table = find(tower + "patch_embedder.position_embedding_table");
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    weights.layers.push_back(assemble_layer(layer, find));
  }
  if (config.standardize) {
    weights.std_bias = find(tower + "std_bias");
    weights.std_scale = find(tower + "std_scale");
  }
  weights.embedding_projection =
      find(std::string(kVisionProjectorPrefix) + "embedding_projection.weight");
  return weights;
}

}  // namespace beryl::weights
