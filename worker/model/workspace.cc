#include "worker/model/workspace.h"

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::model {

using kernels::AttentionShape;
using kernels::DType;
using kernels::TensorView;

namespace {

// Of queries and of what they attended, a row.
int64_t heads_width(const ModelConfig& config) {
  return int64_t{config.num_attention_heads} * std::max(config.head_dim, config.global_head_dim);
}

}  // namespace

size_t Workspace::num_bytes(const ModelConfig& config, const WorkspaceLimits& limits,
                            DType activation) {
  constexpr size_t kFloatRows = 3;       // residual, block_out, experts_out
  constexpr size_t kActivationRows = 3;  // normed, experts_in, selected
  const size_t activation_bytes = kernels::dtype_bytes(activation);
  const auto hidden = static_cast<size_t>(config.hidden_size);
  const size_t row = hidden * (kFloatRows * sizeof(float) + kActivationRows * activation_bytes) +
                     2 * static_cast<size_t>(heads_width(config)) * activation_bytes +
                     static_cast<size_t>(config.top_k_experts) * (sizeof(int32_t) + sizeof(float));
  return static_cast<size_t>(limits.max_rows) * row + static_cast<size_t>(limits.max_logits_rows) *
                                                          static_cast<size_t>(config.vocab_size) *
                                                          sizeof(float);
}

Workspace::Workspace(const ModelConfig& config, const WorkspaceLimits& limits, kernels::Ops& ops)
    : ops_(ops), limits_(limits) {
  BERYL_ASSERT(limits.max_rows > 0 && limits.max_logits_rows > 0, "{} rows, {} logits rows",
               limits.max_rows, limits.max_logits_rows);
  const int64_t num_rows = limits.max_rows;
  const int64_t hidden = config.hidden_size;
  const DType activation = ops.activation_dtype();
  residual_ = allocate(DType::kFloat32, num_rows, hidden);
  normed_ = allocate(activation, num_rows, hidden);
  block_out_ = allocate(DType::kFloat32, num_rows, hidden);
  experts_in_ = allocate(activation, num_rows, hidden);
  experts_out_ = allocate(DType::kFloat32, num_rows, hidden);
  selected_ = allocate(activation, num_rows, hidden);
  topk_idx_ = allocate(DType::kInt32, num_rows, config.top_k_experts);
  topk_weights_ = allocate(DType::kFloat32, num_rows, config.top_k_experts);
  logits_ = allocate(DType::kFloat32, limits.max_logits_rows, config.vocab_size);
  queries_ = allocate(activation, num_rows, heads_width(config));
  attended_ = allocate(activation, num_rows, heads_width(config));
}

Workspace::~Workspace() {
  for (void* memory : allocations_) ops_.free(memory);
}

TensorView Workspace::queries(int num_rows, const AttentionShape& shape) const {
  return {queries_.data, queries_.dtype, {num_rows, shape.num_heads, shape.head_dim}};
}

TensorView Workspace::attended(int num_rows, const AttentionShape& shape) const {
  return {attended_.data, attended_.dtype, {num_rows, int64_t{shape.num_heads} * shape.head_dim}};
}

TensorView Workspace::allocate(DType dtype, int64_t num_rows, int64_t width) {
  TensorView view(nullptr, dtype, {num_rows, width});
  view.data = ops_.allocate(view.num_bytes());
  allocations_.push_back(view.data);
  return view;
}

TensorView Workspace::rows(const TensorView& whole, int num_rows) {
  BERYL_ASSERT(num_rows >= 0 && num_rows <= whole.shape[0], "{} rows of {}", num_rows,
               whole.shape[0]);
  TensorView view = whole;
  view.shape[0] = num_rows;
  return view;
}

}  // namespace beryl::model
