#include "kernels/cuda/tensor_map.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kMaxRank = 5;
constexpr unsigned kSinceVersion = 12000;

using Encode = decltype(&cuTensorMapEncodeTiled);

// A function of the driver, which programs are not linked with.
Encode find_encode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion(
      "cuTensorMapEncodeTiled", &found, kSinceVersion, cudaEnableDefault, &result);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Encode>(found);
}

}  // namespace

cudaError_t make_tensor_map(CUtensorMap& map, const uint16_t* base,
                            std::initializer_list<TensorMapDim> dims) {
  static const Encode encode = find_encode();
  if (encode == nullptr) return cudaErrorNotSupported;
  if (dims.size() > kMaxRank) return cudaErrorInvalidValue;
  cuuint64_t sizes[kMaxRank] = {};
  cuuint64_t strides[kMaxRank] = {};  // bytes, without the first
  cuuint32_t boxes[kMaxRank] = {};
  const cuuint32_t steps[kMaxRank] = {1, 1, 1, 1, 1};
  int rank = 0;
  for (const TensorMapDim& dim : dims) {
    sizes[rank] = static_cast<cuuint64_t>(dim.size);
    boxes[rank] = static_cast<cuuint32_t>(dim.box);
    if (rank > 0) strides[rank - 1] = static_cast<cuuint64_t>(dim.stride) * sizeof(uint16_t);
    ++rank;
  }
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(rank),
             const_cast<uint16_t*>(base), sizes, strides, boxes, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace beryl::kernels::cuda
