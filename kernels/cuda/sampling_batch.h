// SamplingBatchPacker: a sampling batch as one run of bytes for the device, pointers included.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/sampling.h"

namespace beryl::kernels::cuda {

class SamplingBatchPacker {
 public:
  static size_t num_bytes(const SamplingBatch& batch);

  // The bytes that belong at `device`: rows, then all counts, then all biases; the rows point to
  // where those will lie. Valid until the next call. Token ids are checked against vocab_size.
  const std::vector<std::byte>& pack(const SamplingBatch& batch, int32_t vocab_size,
                                     std::byte* device);

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace beryl::kernels::cuda
