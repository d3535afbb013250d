// Features: what the decoder takes in place of embeddings, one row for each soft token. Owns its
// memory.
#pragma once

#include <utility>

#include "kernels/ops.h"

namespace beryl::model {

class Features {
 public:
  // `ops` must outlive it.
  Features(kernels::Ops& ops, int64_t num_tokens, int64_t hidden_size)
      : ops_(&ops), view_(nullptr, kernels::DType::kFloat32, {num_tokens, hidden_size}) {
    view_.data = ops.allocate(view_.num_bytes());
  }
  ~Features() {
    if (view_.data != nullptr) ops_->free(view_.data);
  }
  Features(Features&& other) noexcept
      : ops_(other.ops_), view_(std::exchange(other.view_, kernels::TensorView{})) {}
  Features& operator=(Features&& other) noexcept {
    std::swap(ops_, other.ops_);
    std::swap(view_, other.view_);
    return *this;
  }

  int64_t num_tokens() const { return view_.shape[0]; }
  const kernels::TensorView& view() const { return view_; }  // [num_tokens, hidden_size]

 private:
  kernels::Ops* ops_;
  kernels::TensorView view_;
};

}  // namespace beryl::model
