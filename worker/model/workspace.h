// Workspace: the activations of one rank's decoder, allocated once for the largest step. Inputs of
// matrix products are of Ops::activation_dtype(), the rest is float32.
#pragma once

#include <vector>

#include "kernels/ops.h"
#include "worker/model/model_config.h"

namespace beryl::model {

struct WorkspaceLimits {
  int max_rows = 0;          // most rows of this rank in a step
  int max_logits_rows = 64;  // rows of one slice of the LM head
};

class Workspace {
 public:
  // Takes num_bytes().
  Workspace(const ModelConfig& config, const WorkspaceLimits& limits, kernels::Ops& ops);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  static size_t num_bytes(const ModelConfig& config, const WorkspaceLimits& limits,
                          kernels::DType activation);

  // Views of the first num_rows rows, for a step of that many.
  kernels::TensorView residual(int num_rows) const { return rows(residual_, num_rows); }  // [T, H]
  kernels::TensorView normed(int num_rows) const { return rows(normed_, num_rows); }      // [T, H]
  kernels::TensorView block_out(int num_rows) const {
    return rows(block_out_, num_rows);
  }  // [T, H]
  kernels::TensorView experts_in(int num_rows) const {
    return rows(experts_in_, num_rows);
  }  // [T, H]
  kernels::TensorView experts_out(int num_rows) const {
    return rows(experts_out_, num_rows);
  }                                                                                       // [T, H]
  kernels::TensorView selected(int num_rows) const { return rows(selected_, num_rows); }  // [S, H]
  kernels::TensorView topk_idx(int num_rows) const { return rows(topk_idx_, num_rows); }
  kernels::TensorView topk_weights(int num_rows) const { return rows(topk_weights_, num_rows); }
  kernels::TensorView logits(int num_rows) const { return rows(logits_, num_rows); }  // [S, V]

  // [T, num_heads, head_dim] and [T, num_heads * head_dim] of a layer kind.
  kernels::TensorView queries(int num_rows, const kernels::AttentionShape& shape) const;
  kernels::TensorView attended(int num_rows, const kernels::AttentionShape& shape) const;

  const WorkspaceLimits& limits() const { return limits_; }

 private:
  kernels::TensorView allocate(kernels::DType dtype, int64_t num_rows, int64_t width);
  static kernels::TensorView rows(const kernels::TensorView& whole, int num_rows);

  kernels::Ops& ops_;
  WorkspaceLimits limits_;
  std::vector<void*> allocations_;
  kernels::TensorView residual_;
  kernels::TensorView normed_;
  kernels::TensorView block_out_;
  kernels::TensorView experts_in_;
  kernels::TensorView experts_out_;
  kernels::TensorView selected_;
  kernels::TensorView topk_idx_;
  kernels::TensorView topk_weights_;
  kernels::TensorView logits_;
  kernels::TensorView queries_;
  kernels::TensorView attended_;
};

}  // namespace beryl::model
