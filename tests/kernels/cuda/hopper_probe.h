// One product of a warpgroup, the operands brought in by each way that hopper.cuh offers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace beryl::kernels::cuda {

constexpr int kProbeRows = 64;
constexpr int kProbeDepth = 64;
constexpr int kProbeMaxCols = 256;

struct HopperProbe {
  bool a_is_in_registers = false;
  bool b_is_transposed = false;  // b [64, cols] instead of [cols, 64]
  bool uses_tensor_copies = false;
  bool skips_a_wait = false;    // a planted fault: does not wait for the tensor copies of b
  int num_rounds = 3;           // phases 0, 1, 0 of the barrier
  int num_cols = 8;             // 8, 64, 72, 256
  const uint16_t* a = nullptr;  // [64, 64] bf16
  const uint16_t* b = nullptr;
  float* out = nullptr;  // [64, cols] = 3 * a * b
};

cudaError_t launch_hopper_probe(const HopperProbe& probe, cudaStream_t stream);

}  // namespace beryl::kernels::cuda
