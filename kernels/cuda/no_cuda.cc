// Builds without a CUDA toolkit.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/peaks.h"
#include "kernels/device_error.h"

namespace beryl::kernels::cuda {
namespace {

constexpr const char* kProblem =
    "this build has no CUDA back end: no CUDA toolkit was found when it was configured (install "
    "CUDA 13 and build again)";

}  // namespace

bool is_built_with_cuda() {
  return false;
}

DeviceInfo query_device(int) {
  DeviceInfo info;
  info.problem = kProblem;
  return info;
}

double measure_copy_bandwidth(int) {
  throw DeviceError(kProblem);
}

double measure_upload_bandwidth(int) {
  throw DeviceError(kProblem);
}

std::unique_ptr<Ops> make_cuda_ops(const CudaOpsOptions&) {
  throw DeviceError(kProblem);
}

}  // namespace beryl::kernels::cuda
