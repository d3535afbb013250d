// What a step must do at least: weight bytes that it reads and multiplications that it makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "worker/model/decoder.h"
#include "worker/model/model_config.h"

namespace beryl::bench {

// Weights that every step reads once whatever the tokens are: all but the experts, LM head
// included.
size_t dense_weight_bytes(const model::ModelConfig& config);

size_t expert_weight_bytes(const model::ModelConfig& config);  // of one expert of one layer

// Floating-point operations (a multiply-add is two) of num_tokens positions from 0 on, with the
// logits of the last one.
double prefill_flops(const model::ModelConfig& config, int num_tokens);

// Counts the distinct experts of a step over all layers.
class ExpertCounter final : public model::LayerObserver {
 public:
  explicit ExpertCounter(int num_experts) : seen_(static_cast<size_t>(num_experts)) {}

  void on_hidden(int, const kernels::TensorView&) override {}
  void on_final_norm(const kernels::TensorView&) override {}
  void on_routing(int layer, const kernels::TensorView& topk_idx,
                  const kernels::TensorView& topk_weights) override;

  size_t num_experts_read() const { return num_experts_read_; }

 private:
  std::vector<bool> seen_;
  size_t num_experts_read_ = 0;
};

}  // namespace beryl::bench
