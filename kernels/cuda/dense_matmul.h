// Large dense products through cuBLASLt, which is loaded when the first device is used: programs
// start without it, and say what is missing only when asked to compute on a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>

namespace beryl::kernels::cuda {

struct DenseArgs {
  const uint16_t* x = nullptr;       // [num_rows, k] bf16
  const uint16_t* weight = nullptr;  // [num_cols, k] bf16
  void* out = nullptr;               // [num_rows, num_cols] float32 or bf16
  bool out_is_bf16 = false;
  int num_rows = 0;
  int num_cols = 0;
  int k = 0;
};

class DenseMatmul {
 public:
  // Throws DeviceError when cuBLASLt cannot be loaded or started. The device must be current.
  DenseMatmul();
  ~DenseMatmul();
  DenseMatmul(const DenseMatmul&) = delete;
  DenseMatmul& operator=(const DenseMatmul&) = delete;

  // out = x * weight^T, float32 accumulation. The algorithm of a shape is chosen once.
  void run(const DenseArgs& args, cudaStream_t stream);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace beryl::kernels::cuda
