// ModelConfig: what config.json says about a Gemma 4 mixture-of-experts checkpoint, checked once.
// Field names are those of config.json. Anything that this server does not implement is refused
// here, so that nobody further in has to ask.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace beryl::model {

// One line that names the file, the key, what was expected and what was found.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class LayerKind : uint8_t { kSliding, kGlobal };

// Limits that keep every later product of sizes far from overflow.
constexpr int kMaxVocabSize = 1 << 24;
constexpr int kMaxHiddenSize = 1 << 16;
constexpr int kMaxIntermediateSize = 1 << 20;
constexpr int kMaxLayers = 1024;
constexpr int kMaxHeads = 1024;
constexpr int kMaxHeadDim = 4096;
constexpr int kMaxExperts = 4096;
constexpr int kMaxPositions = 1 << 24;
constexpr size_t kMaxConfigBytes = 4u << 20;
constexpr int kMaxEosTokens = 64;

// The vision tower. A checkpoint without one (no vision_config) reads text only.
struct VisionConfig {
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int head_dim = 0;
  int patch_size = 0;               // pixels
  int pooling_kernel_size = 0;      // patches of a soft token along each axis
  int position_embedding_size = 0;  // most patches along each axis
  float rms_norm_eps = 0;
  bool standardize = false;
  // The first half of a head rotates by the column, the second by the row of its patch; pair i of a
  // half rotates its dimensions i and i + head_dim / 4.
  std::vector<float> inv_freq;  // [head_dim / 4]

  // Pixels of a soft token along each axis: sides of pictures are multiples of it.
  int soft_token_size() const { return patch_size * pooling_kernel_size; }
};

// Ids of control tokens that config.json names; -1 where it names none.
struct MediaTokenIds {
  int32_t boi = -1;
  int32_t eoi = -1;
  int32_t image = -1;
  int32_t video = -1;
};

struct ModelConfig {
  int vocab_size = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int num_hidden_layers = 0;
  int num_attention_heads = 0;
  int num_key_value_heads = 0;  // sliding layers
  int head_dim = 0;             // sliding layers
  int num_global_key_value_heads = 0;
  int global_head_dim = 0;
  int num_experts = 0;
  int top_k_experts = 0;
  int moe_intermediate_size = 0;
  int sliding_window = 0;  // positions a row sees on sliding layers, itself included
  int max_position_embeddings = 0;
  float rms_norm_eps = 0;
  float final_logit_softcapping = 0;
  std::vector<LayerKind> layer_kinds;  // [num_hidden_layers]

  // Inverse frequencies of the pairs that rotate; pair i rotates dimensions i and i + head_dim / 2.
  std::vector<float> sliding_inv_freq;  // [head_dim / 2]
  std::vector<float> global_inv_freq;   // [partial_rotary_factor * global_head_dim / 2]

  std::vector<int32_t> eos_token_ids;
  MediaTokenIds media;
  std::optional<VisionConfig> vision;

  int num_kv_heads(LayerKind kind) const {
    return kind == LayerKind::kGlobal ? num_global_key_value_heads : num_key_value_heads;
  }
  int head_size(LayerKind kind) const {
    return kind == LayerKind::kGlobal ? global_head_dim : head_dim;
  }
  const std::vector<float>& inv_freq(LayerKind kind) const {
    return kind == LayerKind::kGlobal ? global_inv_freq : sliding_inv_freq;
  }
  // Numbers a head rotates.
  int rotary_dim(LayerKind kind) const { return 2 * static_cast<int>(inv_freq(kind).size()); }
  int num_layers(LayerKind kind) const;
};

// Throws ConfigError.
ModelConfig load_model_config(const std::filesystem::path& file);

// The same from text; `file` only appears in messages.
ModelConfig parse_model_config(std::string_view text, const std::string& file);

}  // namespace beryl::model
