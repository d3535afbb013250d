#include "worker/model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace beryl::model {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

json good_config() {
  std::ifstream in(BERYL_SOURCE_DIR "/tests/data/narrow/config.json");
  return json::parse(in);
}

std::string error_of(const std::string& text) {
  try {
    parse_model_config(text, "config.json");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no error";
}

TEST(ModelConfigTest, ReadsTheFieldsOfThePublishedFormat) {
  const ModelConfig config = parse_model_config(good_config().dump(), "config.json");
  EXPECT_EQ(config.vocab_size, 1024);
  EXPECT_EQ(config.num_hidden_layers, 6);
  EXPECT_EQ(config.num_experts, 128);
  EXPECT_EQ(config.top_k_experts, 8);
  EXPECT_EQ(config.sliding_window, 64);
  EXPECT_EQ(config.layer_kinds[4], LayerKind::kSliding);
  EXPECT_EQ(config.layer_kinds[5], LayerKind::kGlobal);
  EXPECT_EQ(config.num_layers(LayerKind::kSliding), 5);
  EXPECT_EQ(config.media.image, 19);
  EXPECT_EQ(config.media.boi, 17);
  EXPECT_EQ(config.media.eoi, 21);
  EXPECT_EQ(config.media.video, 23);
  EXPECT_THAT(config.eos_token_ids, testing::ElementsAre(1));
  ASSERT_TRUE(config.vision.has_value());
  EXPECT_EQ(config.vision->head_dim, 72);
}

TEST(ModelConfigTest, RotatesAllOfSlidingHeadsAndAQuarterOfGlobalOnes) {
  const ModelConfig config = parse_model_config(good_config().dump(), "config.json");
  EXPECT_EQ(config.rotary_dim(LayerKind::kSliding), 256);
  EXPECT_EQ(config.rotary_dim(LayerKind::kGlobal), 128);
  EXPECT_EQ(config.sliding_inv_freq[0], 1.0f);
  EXPECT_EQ(config.sliding_inv_freq[127],
            1.0f / static_cast<float>(std::pow(10000.0, 254.0 / 256)));
  EXPECT_EQ(config.global_inv_freq[63], 1.0f / static_cast<float>(std::pow(1e6, 126.0 / 512)));
}

TEST(ModelConfigTest, HalvesOfAVisionHeadRotateOnTheirOwn) {
  const ModelConfig config = parse_model_config(good_config().dump(), "config.json");
  ASSERT_EQ(config.vision->inv_freq.size(), 18u);
  EXPECT_EQ(config.vision->inv_freq[0], 1.0f);
  EXPECT_EQ(config.vision->inv_freq[17], 1.0f / static_cast<float>(std::pow(100.0, 34.0 / 36)));
  EXPECT_EQ(config.vision->soft_token_size(), 48);
  EXPECT_TRUE(config.vision->standardize);
}

TEST(ModelConfigTest, ACheckpointMayReadTextOnly) {
  json config = good_config();
  config.erase("vision_config");
  EXPECT_FALSE(parse_model_config(config.dump(), "config.json").vision.has_value());
  config["vision_config"] = nullptr;
  EXPECT_FALSE(parse_model_config(config.dump(), "config.json").vision.has_value());
}

TEST(ModelConfigTest, EndTokensMayBeAList) {
  json config = good_config();
  config["eos_token_id"] = {1, 106, 50};
  EXPECT_THAT(parse_model_config(config.dump(), "config.json").eos_token_ids,
              testing::ElementsAre(1, 106, 50));
}

TEST(ModelConfigTest, RefusesWhatItDoesNotImplement) {
  const struct {
    const char* pointer;
    json value;
    const char* named;
  } kBad[] = {
      {"/architectures", {"LlamaForCausalLM"}, "architectures: expected"},
      {"/architectures", nullptr, "architectures"},
      {"/audio_config", json::object(), "audio_config"},
      {"/tie_word_embeddings", false, "tie_word_embeddings"},
      {"/text_config/tie_word_embeddings", false, "text_config.tie_word_embeddings"},
      {"/text_config/model_type", "gemma3_text", "text_config.model_type"},
      {"/text_config/num_kv_shared_layers", 2, "text_config.num_kv_shared_layers"},
      {"/text_config/hidden_size_per_layer_input", 256, "hidden_size_per_layer_input"},
      {"/text_config/use_double_wide_mlp", true, "use_double_wide_mlp"},
      {"/text_config/attention_bias", true, "attention_bias"},
      {"/text_config/attention_k_eq_v", false, "attention_k_eq_v: expected true"},
      {"/text_config/attention_k_eq_v", nullptr, "attention_k_eq_v: expected a value, found null"},
      {"/text_config/enable_moe_block", false, "enable_moe_block"},
      {"/text_config/hidden_activation", "silu", "found \"silu\""},
      {"/text_config/top_k_experts", 129, "top_k_experts: expected an integer from 1 to 128"},
      {"/text_config/num_key_value_heads", 3, "num_key_value_heads: expected a divisor of"},
      {"/text_config/num_global_key_value_heads", 5, "num_global_key_value_heads"},
      {"/text_config/head_dim", 255, "head_dim: expected an even number"},
      {"/text_config/layer_types/2", "chunked_attention", "layer_types"},
      {"/text_config/layer_types", json::array(), "layer_types: expected num_hidden_layers = 6"},
      {"/text_config/rope_parameters/full_attention/rope_type", "yarn",
       "rope_parameters.full_attention.rope_type"},
      {"/text_config/rope_parameters/sliding_attention/rope_type", "proportional",
       "rope_parameters.sliding_attention.rope_type"},
      {"/text_config/rope_parameters/full_attention/partial_rotary_factor", 1.5,
       "partial_rotary_factor"},
      {"/text_config/rope_parameters/full_attention/partial_rotary_factor", 0.0,
       "at least one rotated pair"},
      {"/text_config/rms_norm_eps", -1.0, "rms_norm_eps"},
      {"/text_config/rms_norm_eps", "1e-6", "rms_norm_eps"},
      {"/text_config/eos_token_id", 1024, "eos_token_id: expected token ids below vocab_size"},
      {"/image_token_id", 5000, "image_token_id"},
      {"/vision_config/use_clipped_linears", true, "vision_config.use_clipped_linears"},
      {"/vision_config/num_key_value_heads", 1, "vision_config.num_key_value_heads"},
      {"/vision_config/head_dim", 70, "vision_config.head_dim: expected a multiple of 4"},
      {"/vision_config/rope_parameters/rope_type", "yarn", "vision_config.rope_parameters"},
      {"/vision_config/hidden_activation", "quick_gelu", "found \"quick_gelu\""},
  };
  for (const auto& bad : kBad) {
    json config = good_config();
    config[json::json_pointer(bad.pointer)] = bad.value;
    const std::string message = error_of(config.dump());
    EXPECT_THAT(message, AllOf(HasSubstr("config.json: "), HasSubstr(bad.named),
                               HasSubstr("expected"), Not(HasSubstr("\n"))))
        << bad.pointer;
  }
}

TEST(ModelConfigTest, EverySizeIsLimited) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "global_head_dim",
        "num_global_key_value_heads", "num_experts", "top_k_experts", "moe_intermediate_size",
        "sliding_window", "max_position_embeddings"}) {
    for (const json& value :
         {json(0), json(-1), json(INT64_MAX), json(UINT64_MAX), json(2147483648), json(1.5),
          json("128"), json(true), json(nullptr), json::array(), json::object()}) {
      json config = good_config();
      config["text_config"][key] = value;
      EXPECT_THAT(error_of(config.dump()), AllOf(HasSubstr(key), HasSubstr("found")))
          << key << " = " << value;
    }
    json config = good_config();
    config["text_config"].erase(key);
    EXPECT_THAT(error_of(config.dump()), AllOf(HasSubstr(key), HasSubstr("found nothing")));
  }
}

TEST(ModelConfigTest, RefusesTextThatIsNoObject) {
  for (const char* text : {"", "{", "[]", "null", "{} x", "\xff"}) {
    EXPECT_THAT(error_of(text), HasSubstr("config.json: expected a JSON object")) << text;
  }
  EXPECT_THROW(load_model_config("/nonexistent/config.json"), ConfigError);
}

}  // namespace
}  // namespace beryl::model
