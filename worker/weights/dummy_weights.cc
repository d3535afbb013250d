#include "worker/weights/dummy_weights.h"

#include <bit>
#include <cmath>
#include <initializer_list>

namespace beryl::weights {

namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

constexpr uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

constexpr uint64_t fnv1a64(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

// To nearest, ties to even; the values are finite.
inline uint16_t round_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

DummyRule rounded(double offset, double scale) {
  return {static_cast<float>(offset), static_cast<float>(scale)};
}

}  // namespace

// The first matching line wins. Scales keep activations, scores, routing and logits in the range of
// a trained model, so that float32 and bfloat16 runs stay comparable.
DummyRule dummy_rule(std::string_view name, int64_t fan_in, double post_norm) {
  const double spread = std::sqrt(3.0);  // makes a uniform number in [-1, 1) one of deviation 1
  const auto ends = [&](std::initializer_list<std::string_view> endings) {
    for (const std::string_view ending : endings) {
      if (name.ends_with(ending)) return true;
    }
    return false;
  };
  if (ends({"layer_scalar"})) return rounded(0.95, 0.05);
  if (ends({"q_norm.weight"})) {
    const bool is_text = name.find("language_model") != std::string_view::npos;
    return is_text ? rounded(0.1, 0.03) : rounded(0.35, 0.1);
  }
  if (ends({"post_attention_layernorm.weight", "post_feedforward_layernorm.weight"})) {
    return rounded(post_norm, 0.3 * post_norm);
  }
  if (ends({"language_model.norm.weight"})) return rounded(0.0, 4.0 * spread);
  if (ends({"std_bias"})) return rounded(0.0, 0.5);
  if (ends({"norm.weight", "layernorm.weight", "layernorm_1.weight", "layernorm_2.weight",
            "router.scale", "per_expert_scale", "std_scale"})) {
    return rounded(1.0, 0.3);
  }
  if (ends({"position_embedding_table"})) return rounded(0.0, 0.3 * spread);
  if (ends({"router.proj.weight"})) return rounded(0.0, 2.0 * spread);
  return rounded(0.0, spread / std::sqrt(static_cast<double>(fan_in)));
}

uint64_t dummy_key(uint64_t seed, std::string_view name) {
  return mix(seed ^ fnv1a64(name));
}

void fill_dummy(uint64_t key, const DummyRule& rule, uint64_t first_index,
                std::span<uint16_t> out) {
  uint16_t* const values = out.data();
  const size_t count = out.size();
  uint64_t z0 = key + first_index * kGolden;
  for (size_t i = 0; i < count; ++i, z0 += kGolden) {
    const auto top = static_cast<int32_t>(mix(z0) >> 40);  // 24 bits: exact in float32
    const float u = static_cast<float>(top) * 0x1p-23f - 1.0f;
    values[i] = round_to_bf16(rule.offset + rule.scale * u);
  }
}

}  // namespace beryl::weights
