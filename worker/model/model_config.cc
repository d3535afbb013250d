#include "worker/model/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "parallel/base/printable.h"
#include "worker/model/config_reader.h"

namespace beryl::model {

using nlohmann::json;

namespace {

constexpr std::string_view kActivation = "gelu_pytorch_tanh";

// The rounding of the reference: the power in double, then float32, then one float32 division.
std::vector<float> inverse_frequencies(double theta, int num_pairs, int head_dim) {
  std::vector<float> inv_freq;
  for (int i = 0; i < num_pairs; ++i) {
    inv_freq.push_back(1.0f / static_cast<float>(std::pow(theta, 2.0 * i / head_dim)));
  }
  return inv_freq;
}

void check_supported(const ConfigReader& text) {
  text.require_text("model_type", {"gemma4_text"});
  text.require_text("hidden_activation", {kActivation});
  text.require_value("num_kv_shared_layers", 0);
  text.require_value("hidden_size_per_layer_input", 0);
  text.require_value("use_double_wide_mlp", false);
  text.require_value("tie_word_embeddings", true);
  text.require_value("attention_bias", false);
  text.require_value("use_bidirectional_attention", "vision");
  for (const std::string_view key : {"attention_k_eq_v", "enable_moe_block"}) {
    text.at(key);  // both default to false elsewhere, so they must be written out
    text.require_value(key, true);
  }
}

void read_sizes(const ConfigReader& text, ModelConfig* config) {
  config->vocab_size = text.integer("vocab_size", 1, kMaxVocabSize);
  config->hidden_size = text.integer("hidden_size", 1, kMaxHiddenSize);
  config->intermediate_size = text.integer("intermediate_size", 1, kMaxIntermediateSize);
  config->num_hidden_layers = text.integer("num_hidden_layers", 1, kMaxLayers);
  config->num_attention_heads = text.integer("num_attention_heads", 1, kMaxHeads);
  config->num_key_value_heads = text.integer("num_key_value_heads", 1, kMaxHeads);
  config->head_dim = text.integer("head_dim", 2, kMaxHeadDim);
  config->num_global_key_value_heads = text.integer("num_global_key_value_heads", 1, kMaxHeads);
  config->global_head_dim = text.integer("global_head_dim", 2, kMaxHeadDim);
  config->num_experts = text.integer("num_experts", 1, kMaxExperts);
  config->top_k_experts = text.integer("top_k_experts", 1, config->num_experts);
  config->moe_intermediate_size = text.integer("moe_intermediate_size", 1, kMaxIntermediateSize);
  config->sliding_window = text.integer("sliding_window", 1, kMaxPositions);
  config->max_position_embeddings = text.integer("max_position_embeddings", 1, kMaxPositions);
  config->rms_norm_eps = static_cast<float>(text.number("rms_norm_eps", 0, 1));
  config->final_logit_softcapping =
      static_cast<float>(text.number("final_logit_softcapping", 1e-3, 1e6));
}

void check_heads(const ConfigReader& text, const ModelConfig& config) {
  const auto check_divides = [&](std::string_view key, int kv_heads) {
    if (config.num_attention_heads % kv_heads != 0) {
      text.fail(key, fmt::format("a divisor of num_attention_heads {}", config.num_attention_heads),
                std::to_string(kv_heads));
    }
  };
  check_divides("num_key_value_heads", config.num_key_value_heads);
  check_divides("num_global_key_value_heads", config.num_global_key_value_heads);
  for (const auto& [key, dim] : {std::pair{"head_dim", config.head_dim},
                                 std::pair{"global_head_dim", config.global_head_dim}}) {
    if (dim % 2 != 0) text.fail(key, "an even number", std::to_string(dim));
  }
}

void read_layer_types(const ConfigReader& text, ModelConfig* config) {
  const json& types = text.array("layer_types");
  if (types.size() != static_cast<size_t>(config->num_hidden_layers)) {
    text.fail("layer_types",
              fmt::format("num_hidden_layers = {} entries", config->num_hidden_layers),
              fmt::format("{}", types.size()));
  }
  for (const json& type : types) {
    if (type == "sliding_attention") {
      config->layer_kinds.push_back(LayerKind::kSliding);
    } else if (type == "full_attention") {
      config->layer_kinds.push_back(LayerKind::kGlobal);
    } else {
      text.fail("layer_types", "sliding_attention or full_attention",
                base::printable(type.dump(-1, ' ', true, json::error_handler_t::replace)));
    }
  }
}

void read_rope(const ConfigReader& text, ModelConfig* config) {
  const ConfigReader rope = text.object("rope_parameters");
  const ConfigReader sliding = rope.object("sliding_attention");
  sliding.require_text("rope_type", {"default"});
  const ConfigReader full = rope.object("full_attention");
  full.require_text("rope_type", {"proportional"});

  config->sliding_inv_freq = inverse_frequencies(sliding.number("rope_theta", 1, 1e12),
                                                 config->head_dim / 2, config->head_dim);
  const double factor = full.number("partial_rotary_factor", 0, 1);
  const int num_pairs = static_cast<int>(factor * config->global_head_dim / 2);
  if (num_pairs < 1) {
    full.fail("partial_rotary_factor", "at least one rotated pair of dimensions",
              fmt::format("{}", factor));
  }
  config->global_inv_freq =
      inverse_frequencies(full.number("rope_theta", 1, 1e12), num_pairs, config->global_head_dim);
}

void read_eos(const ConfigReader& top, const ConfigReader& text, ModelConfig* config) {
  const ConfigReader& source = top.has("eos_token_id") ? top : text;
  if (!source.has("eos_token_id")) return;
  const json& value = source.at("eos_token_id");
  const json list = value.is_array() ? value : json::array({value});
  const auto is_id = [&](const json& id) {
    return id.is_number_integer() && id >= 0 && id < config->vocab_size;
  };
  if (list.size() > kMaxEosTokens || !std::all_of(list.begin(), list.end(), is_id)) {
    source.fail("eos_token_id", fmt::format("token ids below vocab_size {}", config->vocab_size),
                base::printable(value.dump(-1, ' ', true, json::error_handler_t::replace)));
  }
  for (const json& id : list) config->eos_token_ids.push_back(id.get<int32_t>());
}

VisionConfig read_vision(const ConfigReader& reader) {
  reader.require_text("model_type", {"gemma4_vision"});
  reader.require_text("hidden_activation", {kActivation});
  reader.require_value("attention_bias", false);
  reader.require_value("use_clipped_linears", false);
  VisionConfig vision;
  vision.hidden_size = reader.integer("hidden_size", 1, kMaxHiddenSize);
  vision.intermediate_size = reader.integer("intermediate_size", 1, kMaxIntermediateSize);
  vision.num_hidden_layers = reader.integer("num_hidden_layers", 1, kMaxLayers);
  vision.num_attention_heads = reader.integer("num_attention_heads", 1, kMaxHeads);
  vision.head_dim = reader.integer("head_dim", 4, kMaxHeadDim);
  if (vision.head_dim % 4 != 0) {
    reader.fail("head_dim", "a multiple of 4", std::to_string(vision.head_dim));
  }
  vision.patch_size = reader.integer("patch_size", 1, 256);
  vision.pooling_kernel_size = reader.integer("pooling_kernel_size", 1, 64);
  vision.position_embedding_size = reader.integer("position_embedding_size", 1, kMaxPositions);
  vision.rms_norm_eps = static_cast<float>(reader.number("rms_norm_eps", 0, 1));
  const ConfigReader rope = reader.object("rope_parameters");
  rope.require_text("rope_type", {"axial", "default"});
  vision.inv_freq = inverse_frequencies(rope.number("rope_theta", 1, 1e12), vision.head_dim / 4,
                                        vision.head_dim / 2);
  reader.require_value("num_key_value_heads", vision.num_attention_heads);
  vision.standardize = reader.has("standardize") && reader.at("standardize") == true;
  return vision;
}

void read_media_ids(const ConfigReader& top, ModelConfig* config) {
  const int last = config->vocab_size - 1;
  config->media.boi = top.integer_or("boi_token_id", -1, 0, last);
  config->media.eoi = top.integer_or("eoi_token_id", -1, 0, last);
  config->media.image = top.integer_or("image_token_id", -1, 0, last);
  config->media.video = top.integer_or("video_token_id", -1, 0, last);
}

}  // namespace

int ModelConfig::num_layers(LayerKind kind) const {
  return static_cast<int>(std::count(layer_kinds.begin(), layer_kinds.end(), kind));
}

ModelConfig parse_model_config(std::string_view text, const std::string& file) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded() || !root.is_object()) {
    throw ConfigError(
        fmt::format("{}: expected a JSON object, found {}", file,
                    root.is_discarded() ? "text that is not JSON" : root.type_name()));
  }
  const ConfigReader top(file, "", root);
  const json& architectures = top.array("architectures");
  if (architectures != json::array({"Gemma4ForConditionalGeneration"})) {
    top.fail("architectures", "[\"Gemma4ForConditionalGeneration\"]",
             base::printable(architectures.dump(-1, ' ', true, json::error_handler_t::replace)));
  }
  top.require_value("audio_config", nullptr);
  top.require_value("tie_word_embeddings", true);
  const ConfigReader decoder = top.object("text_config");
  check_supported(decoder);

  ModelConfig config;
  read_sizes(decoder, &config);
  check_heads(decoder, config);
  read_layer_types(decoder, &config);
  read_rope(decoder, &config);
  read_eos(top, decoder, &config);
  read_media_ids(top, &config);
  if (top.has("vision_config")) config.vision = read_vision(top.object("vision_config"));
  return config;
}

ModelConfig load_model_config(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) {
    throw ConfigError(fmt::format("{}: expected a readable file, found none", file.string()));
  }
  std::string text;
  text.resize(kMaxConfigBytes + 1);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxConfigBytes) {
    throw ConfigError(
        fmt::format("{}: expected at most {} bytes, found more", file.string(), kMaxConfigBytes));
  }
  return parse_model_config(text, file.string());
}

}  // namespace beryl::model
