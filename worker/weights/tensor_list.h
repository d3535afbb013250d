// The tensors that a checkpoint of this architecture must hold: published names and shapes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/model/model_config.h"
#include "worker/weights/checkpoint.h"

namespace beryl::weights {

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;

  int64_t num_elements() const;
  bool is_per_expert() const;  // [num_experts, ...]: a rank holds the parts of its experts
  bool is_vision() const;      // of the tower, or of its projection into the decoder
  size_t num_bytes() const { return static_cast<size_t>(num_elements()) * sizeof(uint16_t); }
};

// All of them in a fixed order: text, then vision where the config has one.
std::vector<TensorSpec> tensor_list(const model::ModelConfig& config);

constexpr const char* kVisionTowerPrefix = "model.vision_tower.";
constexpr const char* kVisionProjectorPrefix = "model.embed_vision.";

std::string layer_prefix(int layer);         // "model.language_model.layers.N."
std::string vision_layer_prefix(int layer);  // "model.vision_tower.encoder.layers.N."

// Every expected tensor is there with its shape in BF16, and no unknown tensor of a part that was
// asked for is (a sign of another architecture). A vision tower that the config does not mention
// may be there. Throws LoadError.
void check_checkpoint(const Checkpoint& checkpoint, const std::vector<TensorSpec>& expected);

}  // namespace beryl::weights
