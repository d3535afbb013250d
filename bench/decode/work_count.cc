#include "bench/decode/work_count.h"

#include <algorithm>

#include "worker/weights/tensor_list.h"

namespace beryl::bench {

using model::LayerKind;
using model::ModelConfig;

size_t dense_weight_bytes(const ModelConfig& config) {
  size_t total = 0;
  for (const weights::TensorSpec& spec : weights::tensor_list(config)) {
    const bool is_text = spec.name.starts_with("model.language_model.");
    const bool is_expert = spec.name.find(".experts.") != std::string::npos;
    if (is_text && !is_expert) total += spec.num_bytes();
  }
  return total;
}

size_t expert_weight_bytes(const ModelConfig& config) {
  return size_t{3} * static_cast<size_t>(config.moe_intermediate_size) *
         static_cast<size_t>(config.hidden_size) * sizeof(uint16_t);
}

double prefill_flops(const ModelConfig& config, int num_tokens) {
  const double hidden = config.hidden_size;
  const double tokens = num_tokens;
  double per_token = 0;
  double attention = 0;
  for (const LayerKind kind : config.layer_kinds) {
    const double head_dim = config.head_size(kind);
    const double heads = config.num_attention_heads;
    const double num_projections = kind == LayerKind::kGlobal ? 1 : 2;  // K, or K and V
    per_token += hidden * head_dim * (2 * heads + num_projections * config.num_kv_heads(kind));
    per_token += 3 * hidden * config.intermediate_size + hidden * config.num_experts;
    per_token += 3 * hidden * config.moe_intermediate_size * config.top_k_experts;
    double pairs = 0;  // of a row and a key that it sees
    for (int position = 0; position < num_tokens; ++position) {
      const int visible = position + 1;
      pairs += kind == LayerKind::kGlobal ? visible : std::min(visible, config.sliding_window);
    }
    attention += 2 * heads * head_dim * pairs;
  }
  return 2 * (per_token * tokens + attention + hidden * config.vocab_size);
}

void ExpertCounter::on_routing(int, const kernels::TensorView& topk_idx,
                               const kernels::TensorView&) {
  std::fill(seen_.begin(), seen_.end(), false);
  const auto* ids = topk_idx.as<const int32_t>();
  for (int64_t i = 0; i < topk_idx.num_elements(); ++i) {
    const auto id = static_cast<size_t>(ids[i]);
    if (seen_[id]) continue;
    seen_[id] = true;
    ++num_experts_read_;
  }
}

}  // namespace beryl::bench
