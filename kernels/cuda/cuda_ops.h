// The CUDA implementation of Ops: bf16 operands, float32 accumulation and residual stream. Can be
// called in every build: without CUDA, or without a GPU, making it throws DeviceError, which says
// what is missing.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/cuda/device_info.h"
#include "kernels/ops.h"

namespace beryl::kernels::cuda {

// Steps that are kept as graphs. Enough for every size of batch up to 200 in one bucket of
// positions: 100 changing chats use 50 to 100 (StepGraphLoadTest).
constexpr size_t kMaxStepGraphs = 256;

// Which kernels are used, where there are several: those for the device, or those that every
// supported device runs.
enum class KernelArch { kBest, kSm80 };

struct CudaOpsOptions {
  int device = 0;
  KernelArch kernel_arch = KernelArch::kBest;
  // Dense products and attention with kernels of ours that are slow or plain, for comparisons.
  bool without_cublas = false;
  bool with_generic_attention = false;
  // Only what sm_80 has too, also where the device could do better.
  bool without_wgmma = false;
  // Steps are launched kernel by kernel, also those that come back.
  bool without_graphs = false;
  // A kernel starts when the one before has ended, also where the device could overlap them.
  bool without_overlap = false;
  // Gets a line where something works in a slower way than it should; default: stderr.
  std::function<void(const std::string&)> warn = {};
};

// All work goes to one stream, in call order; calls return before it is done (download() waits).
// Calls must not overlap, but for upload() and fill_hashed(). Rows of activations are multiples of
// 8 numbers.
std::unique_ptr<Ops> make_cuda_ops(const CudaOpsOptions& options);

// False: this build has no CUDA back end.
bool is_built_with_cuda();

}  // namespace beryl::kernels::cuda
