// What C++ does not say: launches, dynamic shared memory, and the tensor core and copy instructions
// that sm_80 and everything newer has. Kernels use nothing of the kind besides this file, so that
// tests can run them without a GPU: with BERYL_EMULATED_DEVICE the same names come from
// tests/kernels/cuda/emulation.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace beryl::kernels::cuda {
using bf16 = __nv_bfloat16;
}  // namespace beryl::kernels::cuda

#if !defined(BERYL_EMULATED_DEVICE)

// An array `name` of `type` in the shared memory whose size the launch gives.
#define BERYL_DYNAMIC_SHARED(type, name) extern __shared__ __align__(128) type name[]

namespace beryl::kernels::cuda {

template <typename... Parameters, typename... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, int num_threads,
                          int shared_bytes, cudaStream_t stream, Arguments... arguments) {
  constexpr int kDefaultSharedBytes = 48 << 10;
  if (shared_bytes > kDefaultSharedBytes) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, static_cast<unsigned>(num_threads), static_cast<size_t>(shared_bytes), stream>>>(
      arguments...);
  return cudaGetLastError();
}

// Eight bf16 in one load. Weights are read once: they stay out of the first-level cache.
__device__ inline uint4 load_streaming(const bf16* from) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(from));
  return value;
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
