#include "worker/weights/dummy_weights.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace beryl::weights {
namespace {

// Recorded from the definition (arbitrary-precision integers, IEEE float32).
struct Golden {
  uint64_t seed;
  const char* name;  // without "model.", and "text." for "language_model."
  int64_t fan_in;
  uint64_t index;
  uint16_t bits;
};

constexpr Golden kGoldens[] = {
    {20261124, "text.embed_tokens.weight", 128, 0, 0xBD59},
    {20261124, "text.embed_tokens.weight", 128, 1, 0x3DB4},
    {20261124, "text.embed_tokens.weight", 128, 131071, 0x3E0A},
    {20261124, "text.norm.weight", 128, 0, 0xC029},
    {20261124, "text.norm.weight", 128, 127, 0x3FB3},
    {20261124, "text.layers.3.layer_scalar", 1, 0, 0x3F6F},
    {1, "text.layers.0.self_attn.q_norm.weight", 256, 0, 0x3DAD},
    {1, "text.layers.0.self_attn.q_norm.weight", 256, 255, 0x3DB7},
    {1, "vision_tower.encoder.layers.1.self_attn.q_norm.weight", 72, 5, 0x3EB0},
    {7, "text.layers.0.post_attention_layernorm.weight", 2816, 2815, 0x3D11},
    {7, "text.layers.0.post_feedforward_layernorm_1.weight", 2816, 100, 0x3F54},
    {7, "text.layers.9.router.scale", 2816, 17, 0x3F84},
    {7, "text.layers.9.router.per_expert_scale", 128, 127, 0x3F95},
    {7, "text.layers.9.router.proj.weight", 2816, 360447, 0xBDB8},
    {UINT64_MAX, "text.layers.29.experts.gate_up_proj", 2816, 507510783, 0xBCB0},
    {UINT64_MAX, "text.layers.29.experts.gate_up_proj", 2816, 12345678, 0xBBBA},
    {0, "text.layers.5.experts.down_proj", 704, 253755391, 0xBC5D},
    {3, "vision_tower.patch_embedder.position_embedding_table", 1152, 23592959, 0xBEC8},
    {3, "vision_tower.std_bias", 1152, 9, 0xBEBE},
    {3, "vision_tower.std_scale", 1152, 9, 0x3F7D},
    {3, "text.layers.0.self_attn.k_norm.weight", 512, 511, 0x3F8A},
};

std::string full_name(const std::string& name) {
  const bool is_text = name.starts_with("text.");
  return fmt::format("model.{}{}", is_text ? "language_model." : "", name.substr(is_text ? 5 : 0));
}

TEST(DummyWeightsTest, HoldsTheDefinedBits) {
  for (const Golden& golden : kGoldens) {
    const std::string name = full_name(golden.name);
    uint16_t bits = 0;
    fill_dummy(dummy_key(golden.seed, name), dummy_rule(name, golden.fan_in), golden.index,
               {&bits, 1});
    EXPECT_EQ(bits, golden.bits) << name << " [" << golden.index << "]";
  }
}

TEST(DummyWeightsTest, HoldsTheDefinedBitsOverAWholeTensor) {
  const std::string name = "model.language_model.layers.0.mlp.gate_proj.weight";
  std::vector<uint16_t> values(96 * 128);
  fill_dummy(dummy_key(20261124, name), dummy_rule(name, 128), 0, values);
  uint64_t hash = 0xCBF29CE484222325;
  for (const uint16_t value : values) hash = (hash ^ value) * 0x100000001B3;
  EXPECT_EQ(hash, 0x3D0203710B3301F2u);
}

TEST(DummyWeightsTest, PiecesEqualTheWhole) {
  const std::string name = "model.language_model.layers.2.experts.down_proj";
  const uint64_t key = dummy_key(5, name);
  const DummyRule rule = dummy_rule(name, 48);
  std::vector<uint16_t> whole(1000);
  fill_dummy(key, rule, 0, whole);
  std::vector<uint16_t> pieces(1000);
  for (size_t begin = 0; begin < 1000; begin += 7) {
    const size_t count = std::min<size_t>(7, 1000 - begin);
    fill_dummy(key, rule, begin, std::span(pieces).subspan(begin, count));
  }
  EXPECT_EQ(whole, pieces);
}

TEST(DummyWeightsTest, PostNormScalesOnlyPostNorms) {
  const DummyRule post =
      dummy_rule("model.language_model.layers.0.post_attention_layernorm.weight", 2816, 0.5);
  EXPECT_FLOAT_EQ(post.offset, 0.5f);
  EXPECT_FLOAT_EQ(post.scale, 0.15f);
  EXPECT_FLOAT_EQ(
      dummy_rule("model.language_model.layers.0.input_layernorm.weight", 2816, 0.5).offset, 1.0f);
}

}  // namespace
}  // namespace beryl::weights
