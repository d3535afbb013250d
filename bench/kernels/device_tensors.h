// Tensors and arrays of a benchmark, in memory of the operations.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels/ops.h"

namespace beryl::bench {

// Owns what it hands out until it goes.
class DeviceTensors {
 public:
  explicit DeviceTensors(kernels::Ops& ops) : ops_(ops) {}
  ~DeviceTensors();
  DeviceTensors(const DeviceTensors&) = delete;
  DeviceTensors& operator=(const DeviceTensors&) = delete;

  kernels::Ops& ops() const { return ops_; }

  kernels::TensorView zeros(kernels::DType dtype, std::initializer_list<int64_t> dims);
  // bf16, uniform in offset +- scale.
  kernels::TensorView random(std::initializer_list<int64_t> dims, float scale, float offset = 0);
  // float32 rows, about normal.
  kernels::TensorView random_rows(int64_t num_rows, int64_t width);
  const int32_t* ints(const std::vector<int32_t>& values);

  std::vector<float> floats(const kernels::TensorView& tensor) const;

 private:
  kernels::Ops& ops_;
  std::vector<void*> memory_;
  uint64_t next_key_ = 1;
};

// Largest |a - b| over the largest |b|; infinite with a NaN.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace beryl::bench
