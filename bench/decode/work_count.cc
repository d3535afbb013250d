#include "bench/decode/work_count.h"

#include <algorithm>

#include "worker/model/attention_shape.h"
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

namespace {

// Of one row, without attention's scores and values: multiply-adds.
double products_per_row(const ModelConfig& config) {
  const double hidden = config.hidden_size;
  double sum = 0;
  for (const LayerKind kind : config.layer_kinds) {
    const double head_dim = config.head_size(kind);
    const double heads = config.num_attention_heads;
    const double num_projections = kind == LayerKind::kGlobal ? 1 : 2;  // K, or K and V
    sum += hidden * head_dim * (2 * heads + num_projections * config.num_kv_heads(kind));
    sum += 3 * hidden * config.intermediate_size + hidden * config.num_experts;
    sum += 3 * hidden * config.moe_intermediate_size * config.top_k_experts;
  }
  return sum;
}

// Multiply-adds of attention of one layer for one row and key, all heads: score and value.
double products_per_pair(const ModelConfig& config, LayerKind kind) {
  return 2.0 * config.num_attention_heads * config.head_size(kind);
}

double visible(const ModelConfig& config, LayerKind kind, int position) {
  return kind == LayerKind::kGlobal ? position + 1 : std::min(position + 1, config.sliding_window);
}

}  // namespace

size_t kv_bytes_read(const ModelConfig& config, kernels::DType kv_dtype, int position) {
  size_t total = 0;
  for (const LayerKind kind : config.layer_kinds) {
    const kernels::AttentionShape shape = model::attention_shape(config, kind);
    const auto numbers = static_cast<size_t>(shape.num_kv_heads * shape.cached_dim());
    total += static_cast<size_t>(visible(config, kind, position)) * numbers *
             kernels::dtype_bytes(kv_dtype);
  }
  return total;
}

double decode_flops(const ModelConfig& config, int position) {
  double attention = 0;
  for (const LayerKind kind : config.layer_kinds) {
    attention += products_per_pair(config, kind) * visible(config, kind, position);
  }
  const double logits = static_cast<double>(config.hidden_size) * config.vocab_size;
  return 2 * (products_per_row(config) + attention + logits);
}

double prefill_flops(const ModelConfig& config, int num_tokens) {
  double attention = 0;
  for (const LayerKind kind : config.layer_kinds) {
    double pairs = 0;  // of a row and a key that it sees
    for (int position = 0; position < num_tokens; ++position) {
      pairs += visible(config, kind, position);
    }
    attention += products_per_pair(config, kind) * pairs;
  }
  const double logits = static_cast<double>(config.hidden_size) * config.vocab_size;
  return 2 * (products_per_row(config) * num_tokens + attention + logits);
}

void ExpertCounter::on_routing(int, const kernels::TensorView& topk_idx,
                               const kernels::TensorView&) {
  std::fill(seen_.begin(), seen_.end(), false);
  ids_.resize(static_cast<size_t>(topk_idx.num_elements()));
  ops_.download(ids_.data(), topk_idx.data, topk_idx.num_bytes());
  for (const int32_t expert : ids_) {
    const auto id = static_cast<size_t>(expert);
    if (seen_[id]) continue;
    seen_[id] = true;
    ++num_experts_read_;
  }
}

}  // namespace beryl::bench
