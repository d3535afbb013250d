// What sm_90a has beyond instructions.cuh: barriers in shared memory that count arrivals and bytes,
// tensor copies (TMA), products of four warps (wgmma) whose operands lie in shared memory, and
// moving registers between warps. Kernels that use it are launched on such devices alone; their
// code for older ones traps. With BERYL_EMULATED_DEVICE the same names come from
// tests/kernels/cuda/emulation/hopper.h.
//
// Tiles in shared memory: rows of 128 bytes (64 bf16), the first at a multiple of 1024 bytes, in
// the 128-byte swizzle: chunk c of 16 bytes of row r lies at chunk c ^ (r % 8). Tensor copies with
// that swizzle write them, swizzled_offset() tells where for other copies.
//
// Order of memory: wgmma and tensor copies read and write shared memory through the asynchronous
// proxy. Numbers written by a thread (stores, and copy_async once waited for) are seen by wgmma
// after the writer calls fence_async_proxy() and then arrives at what the reader waits for; those
// of arrive_after_copies() after the reader, having waited, calls it.
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/cuda/instructions.cuh"
#include "kernels/cuda/wgmma_shapes.cuh"

namespace beryl::kernels::cuda {

constexpr int kWarpgroupThreads = 128;
constexpr int kSwizzleRowBytes = 128;
constexpr int kSwizzleRowNumbers = 64;      // bf16
constexpr int kSwizzleAlignment = 8 * 128;  // of tiles

// Byte offset in a tile of chunk `chunk` (0..7) of row `row`.
__device__ constexpr uint32_t swizzled_offset(int row, int chunk) {
  return static_cast<uint32_t>(row * kSwizzleRowBytes + ((chunk ^ (row & 7)) << 4));
}

// Descriptors of wgmma operands. Fields: address / 16 in bits 0-13, stride between blocks along the
// contiguous dimension / 16 in bits 16-29, stride between groups of 8 rows / 16 in bits 32-45,
// swizzle of 128 bytes in bits 62-63.
__device__ constexpr uint64_t swizzled_operand(uint32_t address, uint32_t block_stride) {
  constexpr uint64_t kGroupStride = kSwizzleAlignment / 16;
  constexpr uint64_t kSwizzle128 = 1;
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(block_stride >> 4) << 16 |
         kGroupStride << 32 | kSwizzle128 << 62;
}

// Rows of the tile are rows of A or columns of B, k is contiguous. `address`: of the tile, plus 32
// bytes for each 16 of k, plus 1024 for each 8 rows.
__device__ constexpr uint64_t k_major_operand(uint32_t address) {
  return swizzled_operand(address, 16);
}

// For B with kTransposed: rows of the tile are k, 64 columns of B are contiguous; the next 64
// columns lie `block_stride` bytes further. `address`: of the tile, plus 2048 bytes for each 16 of
// k.
__device__ constexpr uint64_t column_major_operand(uint32_t address, uint32_t block_stride) {
  return swizzled_operand(address, block_stride);
}

}  // namespace beryl::kernels::cuda

#if !defined(BERYL_EMULATED_DEVICE)

// Defined where code for sm_90a is compiled.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BERYL_HOPPER_CODE 1
#endif

namespace beryl::kernels::cuda {

#if defined(BERYL_HOPPER_CODE)

// A barrier: 8 bytes of shared memory at a multiple of 8. Its phase ends when `num_arrivals` have
// arrived and the expected bytes have been copied. Phases are numbered 0, 1, 2, ..; waits name the
// parity of the phase that must have ended.
__device__ inline void init_barrier(uint32_t barrier, int num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(num_arrivals)
               : "memory");
}

// By the thread that initialised barriers, before the block meets (__syncthreads).
__device__ inline void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and lets the phase wait for `num_bytes` of tensor copies.
__device__ inline void arrive_expecting(uint32_t barrier, uint32_t num_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
               "r"(num_bytes)
               : "memory");
}

// Arrives when all earlier copy_async of this thread have landed.
__device__ inline void arrive_after_copies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ inline bool phase_has_ended(uint32_t barrier, uint32_t parity) {
  uint32_t ended;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(ended)
      : "r"(barrier), "r"(parity)
      : "memory");
  return ended != 0;
}

// A fault of a kernel ends it instead of stopping the device.
constexpr uint64_t kMaxBarrierWaitCycles = 4'000'000'000;  // two seconds

__device__ inline uint64_t cycles() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%clock64;" : "=l"(now));
  return now;
}

// The whole loop in assembly: ptxas gives a kernel that calls __trap() no registers beyond those
// that it starts with, whatever take_registers() says.
__device__ inline void wait_barrier(uint32_t barrier, uint32_t parity) {
  if (phase_has_ended(barrier, parity)) return;
  const uint64_t last = cycles() + kMaxBarrierWaitCycles;
  asm volatile(
      "{\n.reg .pred p;\n.reg .u64 now;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra done;\n"
      "mov.u64 now, %%clock64;\n"
      "setp.gt.u64 p, now, %2;\n"
      "@p trap;\n"
      "bra again;\n"
      "done:\n}" ::"r"(barrier),
      "r"(parity), "l"(last)
      : "memory");
}

// What this thread has written to shared memory can be read by wgmma and tensor copies.
__device__ inline void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// A box of a tensor (CUtensorMap, a __grid_constant__ parameter of the kernel) to shared memory, by
// one thread; `barrier` counts its bytes, those beyond the tensor (zeros) included. Coordinates are
// in numbers, the contiguous dimension first.
__device__ inline void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                   int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1)
      : "memory");
}
__device__ inline void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                   int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
__device__ inline void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                   int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, %6}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
__device__ inline void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier, int c0,
                                   int c1, int c2, int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, %6, %7}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}
__device__ inline void prefetch_tensor_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Bounds the registers of the threads of this warpgroup; all of its warps call it, in a kernel with
// __launch_bounds__(threads, 1). Multiples of 8.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// __syncthreads() of `num_threads` threads, whole warps. id: 1..15.
__device__ inline void sync_some_threads(int id, int num_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(num_threads) : "memory");
}

// Keeps the compiler from moving reads and writes of `d` across: before the first wgmma of a sum
// and after the wait for the last.
template <int kSize>
__device__ inline void fence_result(float (&d)[kSize]) {
#pragma unroll
  for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

// Before the first wgmma, and whenever registers that a wgmma reads or adds to were written
// otherwise.
__device__ inline void fence_wgmma() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_wgmma() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending of the latest groups are under way.
template <int kPending>
__device__ inline void wait_wgmma() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// d (64 x kCols) = a (64 x 16) * b (16 x kCols), plus d if `adds`; by four warps, the first a
// multiple of four. Warp w of them, lane l, g = l / 4, t = l % 4 holds rows 16w + g (d[4j], d[4j +
// 1]) and 16w + g + 8 (d[4j + 2], d[4j + 3]), columns 8j + 2t and 8j + 2t + 1. Under way until
// waited for: d must not be touched before. Operands by k_major_operand(); b with kTransposed by
// column_major_operand().
template <int kCols, bool kTransposed = false, int kSize>
__device__ inline void wgmma(float (&d)[kSize], uint64_t a, uint64_t b, bool adds) {
  static_assert(kCols % 8 == 0 && kCols >= 8 && kCols <= 256 && kSize >= kCols / 2);
#define BERYL_WGMMA(n, i0, i1, i2, i3, ...)                                              \
  if constexpr (kCols == n) {                                                            \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i2                                \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n                            \
                 "k16.f32.bf16.bf16 {" BERYL_WGMMA_TEXT_##n "}, %" #i0 ", %" #i1         \
                                                            ", p, 1, 1, 0, %" #i3 ";\n}" \
                 : BERYL_WGMMA_RESULT_##n(d)                                             \
                 : "l"(a), "l"(b), "r"(static_cast<int>(adds)), "n"(kTransposed ? 1 : 0) \
                 : "memory");                                                            \
  }
  BERYL_WGMMA_SHAPES(BERYL_WGMMA)
#undef BERYL_WGMMA
}

// The same with rows 16w .. 16w + 15 of a in registers of warp w, as in mma_bf16().
template <int kCols, bool kTransposed = false, int kSize>
__device__ inline void wgmma(float (&d)[kSize], const uint32_t (&a)[4], uint64_t b, bool adds) {
  static_assert(kCols % 8 == 0 && kCols >= 8 && kCols <= 256 && kSize >= kCols / 2);
#define BERYL_WGMMA(n, i0, i1, i2, i3, i4, i5, i6)                                              \
  if constexpr (kCols == n) {                                                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i5                                       \
                 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n                                   \
                 "k16.f32.bf16.bf16 {" BERYL_WGMMA_TEXT_##n                                     \
                 "}, {%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", p, 1, 1, %" #i6 ";\n}" \
                 : BERYL_WGMMA_RESULT_##n(d)                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),                          \
                   "r"(static_cast<int>(adds)), "n"(kTransposed ? 1 : 0)                        \
                 : "memory");                                                                   \
  }
  BERYL_WGMMA_SHAPES(BERYL_WGMMA)
#undef BERYL_WGMMA
}

#else  // code for devices that never run such kernels

__device__ inline void init_barrier(uint32_t, int) {
  __trap();
}
__device__ inline void publish_barriers() {}
__device__ inline void arrive(uint32_t) {}
__device__ inline void arrive_expecting(uint32_t, uint32_t) {}
__device__ inline void arrive_after_copies(uint32_t) {}
__device__ inline void wait_barrier(uint32_t, uint32_t) {
  __trap();
}
__device__ inline void fence_async_proxy() {}
template <typename... Coordinates>
__device__ inline void copy_tensor(uint32_t, const CUtensorMap&, uint32_t, Coordinates...) {}
__device__ inline void prefetch_tensor_map(const CUtensorMap&) {}
template <int kRegisters>
__device__ inline void give_registers() {}
template <int kRegisters>
__device__ inline void take_registers() {}
__device__ inline void sync_some_threads(int, int) {}
template <int kSize>
__device__ inline void fence_result(float (&)[kSize]) {}
__device__ inline void fence_wgmma() {}
__device__ inline void commit_wgmma() {}
template <int kPending>
__device__ inline void wait_wgmma() {}
template <int kCols, bool kTransposed = false, int kSize>
__device__ inline void wgmma(float (&)[kSize], uint64_t, uint64_t, bool) {}
template <int kCols, bool kTransposed = false, int kSize>
__device__ inline void wgmma(float (&)[kSize], const uint32_t (&)[4], uint64_t, bool) {}

#endif

}  // namespace beryl::kernels::cuda

#endif
