#include "worker/weights/dummy_weights.h"

#include <cmath>
#include <initializer_list>

#include "kernels/hashed_weights.h"

namespace beryl::weights {

namespace {

constexpr uint64_t fnv1a64(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
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
  return kernels::hash_mix(seed ^ fnv1a64(name));
}

void fill_dummy(uint64_t key, const DummyRule& rule, uint64_t first_index,
                std::span<uint16_t> out) {
  const kernels::HashedTensor tensor = {key, rule.offset, rule.scale};
  uint16_t* const values = out.data();
  const size_t count = out.size();
  for (size_t i = 0; i < count; ++i) values[i] = kernels::hashed_weight(tensor, first_index + i);
}

}  // namespace beryl::weights
