// What C++ does not say: launches, dynamic shared memory, and the tensor core and copy instructions
// that sm_80 and everything newer has. Kernels use nothing of the kind besides this file, so that
// tests can run them without a GPU: with BERYL_EMULATED_DEVICE the same names come from
// tests/kernels/cuda/emulation.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/launch_stream.h"

namespace beryl::kernels::cuda {
using bf16 = __nv_bfloat16;
}  // namespace beryl::kernels::cuda

#if !defined(BERYL_EMULATED_DEVICE)

// An array `name` of `type` in the shared memory whose size the launch gives.
#define BERYL_DYNAMIC_SHARED(type, name) extern __shared__ __align__(128) type name[]

namespace beryl::kernels::cuda {

inline cudaError_t allow_shared_bytes(const void* kernel, int shared_bytes) {
  constexpr int kDefaultSharedBytes = 48 << 10;
  if (shared_bytes <= kDefaultSharedBytes) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, int num_threads,
                          int shared_bytes, cudaStream_t stream, Arguments... arguments) {
  const cudaError_t error = allow_shared_bytes(reinterpret_cast<const void*>(kernel), shared_bytes);
  if (error != cudaSuccess) return error;
  kernel<<<grid, static_cast<unsigned>(num_threads), static_cast<size_t>(shared_bytes), stream>>>(
      arguments...);
  return cudaGetLastError();
}

// For kernels of which every thread calls wait_for_earlier_kernels() before it returns. Where the
// stream overlaps, such a kernel may be started as soon as all blocks of the kernel before have
// called let_next_kernel_start() or ended (programmatic dependent launch).
template <typename... Parameters, typename... Arguments>
cudaError_t launch_overlapping_kernel(void (*kernel)(Parameters...), dim3 grid, int num_threads,
                                      int shared_bytes, LaunchStream stream,
                                      Arguments... arguments) {
  if (!stream.overlaps) {
    return launch_kernel(kernel, grid, num_threads, shared_bytes, stream.stream, arguments...);
  }
  const cudaError_t error = allow_shared_bytes(reinterpret_cast<const void*>(kernel), shared_bytes);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(num_threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream.stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

__device__ inline void let_next_kernel_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns when the kernels before have ended and what they wrote can be read. They have in turn
// waited for those before them. Until then a thread may prefetch and read what no kernel of a step
// writes (arrays of the batch), and touches no memory otherwise.
// What earlier kernels of a step wrote is not read through the read-only cache (__ldg).
__device__ inline void wait_for_earlier_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// How a kernel begins that reads nothing ahead.
__device__ inline void begin_overlapping_kernel() {
  let_next_kernel_start();
  wait_for_earlier_kernels();
}

// Eight bf16 in one load. Weights are read once: they stay out of the first-level cache.
__device__ inline uint4 load_streaming(const bf16* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
}

// Starts bringing what lies at `from` to the second-level cache.
__device__ inline void prefetch(const bf16* from) {
  asm volatile("prefetch.global.L2 [%0];" : : "l"(from));
}

// 2^x to about 2 units in the last place; 0 for -infinity and where the result has no normal form.
__device__ inline float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// d += a * b. Lane l, g = l / 4, t = l % 4:
//   a (16 x 16): a0 row g, columns 2t and 2t + 1; a1 row g + 8; a2, a3 the same rows, columns + 8
//   b (16 x 8):  b0 rows 2t and 2t + 1 of column g; b1 rows + 8
//   d (16 x 8):  d0, d1 row g, columns 2t and 2t + 1; d2, d3 row g + 8
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Four 8 x 8 matrices of 16-bit numbers; lanes 8i .. 8i + 7 give the addresses of the rows of
// matrix i (16 bytes each). Register i: row l / 4, columns 2 (l % 4) and + 1 of matrix i; with
// `transposed`, of its transpose.
__device__ inline void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// 16 bytes from global to shared memory behind the thread's back; zeros unless `valid` (then `from`
// is not read, but must be an address of global memory).
__device__ inline void copy_async(uint32_t to_shared, const void* from, bool valid) {
  const int num_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to_shared), "l"(from), "r"(num_bytes)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most kPending of this thread's latest groups are under way.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace beryl::kernels::cuda

#endif
