// Memory from Ops::allocate, returned when it goes out of scope.
#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/ops.h"

namespace beryl::expert {

class OpsBuffer {
 public:
  OpsBuffer(kernels::Ops& ops, size_t num_bytes)
      : ops_(ops), memory_(static_cast<std::byte*>(ops.allocate(std::max<size_t>(num_bytes, 1)))) {}
  ~OpsBuffer() { ops_.free(memory_); }
  OpsBuffer(const OpsBuffer&) = delete;
  OpsBuffer& operator=(const OpsBuffer&) = delete;

  std::byte* bytes() const { return memory_; }
  float* f32() const { return reinterpret_cast<float*>(memory_); }

 private:
  kernels::Ops& ops_;
  std::byte* const memory_;
};

}  // namespace beryl::expert
