// TensorView: a typed window on memory that somebody else owns. Contiguous, row-major.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "kernels/check.h"

namespace beryl::kernels {

enum class DType : uint8_t { kFloat32, kBFloat16, kInt32 };

constexpr size_t dtype_bytes(DType dtype) {
  return dtype == DType::kBFloat16 ? 2 : 4;
}

constexpr int kMaxTensorDims = 5;

struct TensorView {
  void* data = nullptr;  // host or device memory, as the Ops that reads it requires
  DType dtype = DType::kFloat32;
  int num_dims = 0;
  int64_t shape[kMaxTensorDims] = {};

  TensorView() = default;
  TensorView(void* memory, DType type, std::initializer_list<int64_t> dims)
      : data(memory), dtype(type), num_dims(static_cast<int>(dims.size())) {
    BERYL_CHECK(dims.size() <= static_cast<size_t>(kMaxTensorDims));
    int i = 0;
    for (const int64_t dim : dims) shape[i++] = dim;
  }

  bool empty() const { return data == nullptr; }
  int64_t num_elements() const {
    int64_t n = 1;
    for (int i = 0; i < num_dims; ++i) n *= shape[i];
    return n;
  }
  size_t num_bytes() const { return static_cast<size_t>(num_elements()) * dtype_bytes(dtype); }

  // Rows [begin, begin + count) of the first dimension.
  TensorView rows(int64_t begin, int64_t count) const {
    BERYL_CHECK(num_dims > 0 && begin >= 0 && count >= 0 && begin + count <= shape[0]);
    TensorView part = *this;
    part.shape[0] = count;
    const int64_t row = shape[0] == 0 ? 0 : num_elements() / shape[0];
    part.data = static_cast<char*>(data) + static_cast<size_t>(begin * row) * dtype_bytes(dtype);
    return part;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  float* f32() const {
    BERYL_CHECK(dtype == DType::kFloat32);
    return as<float>();
  }
  const uint16_t* bf16() const {
    BERYL_CHECK(dtype == DType::kBFloat16);
    return as<const uint16_t>();
  }
};

}  // namespace beryl::kernels
