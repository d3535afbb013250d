#include "worker/weights/tensor_list.h"

#include <fmt/format.h>

#include <set>
#include <string_view>

#include "parallel/base/printable.h"
#include "worker/weights/load_error.h"

namespace beryl::weights {

using model::LayerKind;
using model::ModelConfig;
using model::VisionConfig;

namespace {

constexpr std::string_view kTextPrefix = "model.language_model.";

void add_text_layer(const ModelConfig& config, int layer, std::vector<TensorSpec>* list) {
  const std::string prefix = layer_prefix(layer);
  const auto add = [&](std::string_view name, std::vector<int64_t> shape) {
    list->push_back({fmt::format("{}{}", prefix, name), std::move(shape)});
  };
  const LayerKind kind = config.layer_kinds[static_cast<size_t>(layer)];
  const int64_t hidden = config.hidden_size;
  const int64_t head_dim = config.head_size(kind);
  const int64_t q_dim = config.num_attention_heads * head_dim;
  const int64_t kv_dim = config.num_kv_heads(kind) * head_dim;
  for (const char* norm :
       {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
        "post_feedforward_layernorm", "post_feedforward_layernorm_1", "pre_feedforward_layernorm_2",
        "post_feedforward_layernorm_2"}) {
    add(fmt::format("{}.weight", norm), {hidden});
  }
  add("layer_scalar", {1});
  add("self_attn.q_proj.weight", {q_dim, hidden});
  add("self_attn.k_proj.weight", {kv_dim, hidden});
  if (kind == LayerKind::kSliding) add("self_attn.v_proj.weight", {kv_dim, hidden});
  add("self_attn.o_proj.weight", {hidden, q_dim});
  add("self_attn.q_norm.weight", {head_dim});
  add("self_attn.k_norm.weight", {head_dim});
  add("mlp.gate_proj.weight", {config.intermediate_size, hidden});
  add("mlp.up_proj.weight", {config.intermediate_size, hidden});
  add("mlp.down_proj.weight", {hidden, config.intermediate_size});
  add("router.proj.weight", {config.num_experts, hidden});
  add("router.scale", {hidden});
  add("router.per_expert_scale", {config.num_experts});
  const int64_t expert_dim = config.moe_intermediate_size;
  add("experts.gate_up_proj", {config.num_experts, 2 * expert_dim, hidden});
  add("experts.down_proj", {config.num_experts, hidden, expert_dim});
}

void add_vision_layer(const VisionConfig& vision, int layer, std::vector<TensorSpec>* list) {
  const std::string prefix = vision_layer_prefix(layer);
  const auto add = [&](std::string_view name, std::vector<int64_t> shape) {
    list->push_back({fmt::format("{}{}", prefix, name), std::move(shape)});
  };
  const int64_t hidden = vision.hidden_size;
  const int64_t attention_dim = int64_t{vision.num_attention_heads} * vision.head_dim;
  for (const char* norm : {"input_layernorm", "post_attention_layernorm",
                           "pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
    add(fmt::format("{}.weight", norm), {hidden});
  }
  for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
    add(fmt::format("self_attn.{}.linear.weight", name), {attention_dim, hidden});
  }
  add("self_attn.o_proj.linear.weight", {hidden, attention_dim});
  add("self_attn.q_norm.weight", {vision.head_dim});
  add("self_attn.k_norm.weight", {vision.head_dim});
  add("mlp.gate_proj.linear.weight", {vision.intermediate_size, hidden});
  add("mlp.up_proj.linear.weight", {vision.intermediate_size, hidden});
  add("mlp.down_proj.linear.weight", {hidden, vision.intermediate_size});
}

void add_vision(const ModelConfig& config, std::vector<TensorSpec>* list) {
  const VisionConfig& vision = *config.vision;
  const int64_t hidden = vision.hidden_size;
  const int64_t patch_dim = int64_t{3} * vision.patch_size * vision.patch_size;
  const std::string tower = kVisionTowerPrefix;
  list->push_back({tower + "patch_embedder.input_proj.weight", {hidden, patch_dim}});
  list->push_back({tower + "patch_embedder.position_embedding_table",
                   {2, vision.position_embedding_size, hidden}});
  if (vision.standardize) {
    list->push_back({tower + "std_bias", {hidden}});
    list->push_back({tower + "std_scale", {hidden}});
  }
  for (int layer = 0; layer < vision.num_hidden_layers; ++layer) {
    add_vision_layer(vision, layer, list);
  }
  list->push_back({std::string(kVisionProjectorPrefix) + "embedding_projection.weight",
                   {config.hidden_size, hidden}});
}

void check_tensor(const Checkpoint& checkpoint, const TensorSpec& spec) {
  const FoundTensor found = checkpoint.find(spec.name);
  const std::string expected = describe("BF16", spec.shape);
  if (found.file == nullptr) {
    throw LoadError(fmt::format("{}: tensor \"{}\": expected {}, found none",
                                checkpoint.path().string(), spec.name, expected));
  }
  if (found.tensor->dtype != "BF16" || found.tensor->shape != spec.shape) {
    throw LoadError(fmt::format("{}: tensor \"{}\": expected {}, found {}",
                                found.file->path().string(), spec.name, expected,
                                describe(found.tensor->dtype, found.tensor->shape)));
  }
}

}  // namespace

int64_t TensorSpec::num_elements() const {
  int64_t product = 1;
  for (const int64_t dim : shape) product *= dim;
  return product;
}

bool TensorSpec::is_per_expert() const {
  return name.find(".experts.") != std::string::npos;
}

bool TensorSpec::is_vision() const {
  return name.starts_with(kVisionTowerPrefix) || name.starts_with(kVisionProjectorPrefix);
}

std::string layer_prefix(int layer) {
  return fmt::format("{}layers.{}.", kTextPrefix, layer);
}

std::string vision_layer_prefix(int layer) {
  return fmt::format("{}encoder.layers.{}.", kVisionTowerPrefix, layer);
}

std::vector<TensorSpec> tensor_list(const ModelConfig& config) {
  std::vector<TensorSpec> list;
  list.push_back(
      {"model.language_model.embed_tokens.weight", {config.vocab_size, config.hidden_size}});
  list.push_back({"model.language_model.norm.weight", {config.hidden_size}});
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    add_text_layer(config, layer, &list);
  }
  if (config.vision) add_vision(config, &list);
  return list;
}

void check_checkpoint(const Checkpoint& checkpoint, const std::vector<TensorSpec>& expected) {
  std::set<std::string_view> names;
  bool has_vision = false;
  for (const TensorSpec& spec : expected) {
    check_tensor(checkpoint, spec);
    names.insert(spec.name);
    if (spec.name.starts_with(kVisionTowerPrefix)) has_vision = true;
  }
  const auto is_ours = [&](std::string_view name) {
    return name.starts_with(kTextPrefix) ||
           (has_vision &&
            (name.starts_with(kVisionTowerPrefix) || name.starts_with(kVisionProjectorPrefix)));
  };
  for (const auto& [name, found] : checkpoint.tensors()) {
    if (is_ours(name) && !names.contains(name)) {
      throw LoadError(fmt::format("{}: tensor \"{}\": expected no such tensor, found {}",
                                  found.file->path().string(), base::printable(name),
                                  describe(found.tensor->dtype, found.tensor->shape)));
    }
  }
}

}  // namespace beryl::weights
