// What a step must do at least: weight bytes that it reads and multiplications that it makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "worker/model/decoder.h"
#include "worker/model/model_config.h"

namespace beryl::bench {

// Weights that every step reads once whatever the tokens are: all but the experts, LM head
// included.
size_t dense_weight_bytes(const model::ModelConfig& config);

size_t expert_weight_bytes(const model::ModelConfig& config);  // of one expert of one layer

// KV bytes that attention reads for one row at `position` (a row sees itself), over all layers.
size_t kv_bytes_read(const model::ModelConfig& config, kernels::DType kv_dtype, int position);

// Floating-point operations of decoding one token at `position`, logits included.
double decode_flops(const model::ModelConfig& config, int position);

// Floating-point operations (a multiply-add is two) of num_tokens positions from 0 on, with the
// logits of the last one.
double prefill_flops(const model::ModelConfig& config, int num_tokens);

// Counts the distinct experts of steps over all layers. Looks at nothing else, so that on a device
// only the routing travels.
class ExpertCounter final : public model::LayerObserver {
 public:
  ExpertCounter(int num_experts, kernels::Ops& ops)
      : ops_(ops), seen_(static_cast<size_t>(num_experts)) {}

  void on_hidden(int, const kernels::TensorView&) override {}
  void on_final_norm(const kernels::TensorView&) override {}
  void on_routing(int layer, const kernels::TensorView& topk_idx,
                  const kernels::TensorView& topk_weights) override;

  size_t num_experts_read() const { return num_experts_read_; }

 private:
  kernels::Ops& ops_;
  std::vector<int32_t> ids_;  // of a layer, in host memory
  std::vector<bool> seen_;
  size_t num_experts_read_ = 0;
};

}  // namespace beryl::bench
