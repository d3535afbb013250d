// The emulated counterpart of kernels/cuda/hopper.cuh, from the same descriptors, barriers and
// swizzle. Tensor copies, and copies that arrive by themselves, land when a thread waits at their
// barrier, products when they are waited for: what is read or overwritten too early shows.
// copy_async without fence_async_proxy() before a barrier, or after one of arrive_after_copies(),
// ends the program, and so do waits that nobody will end.
//
// What it cannot show: a missing fence after ordinary stores, and that the fields of descriptors
// and tensor maps mean to the device what they mean here.
#pragma once

#include <cuda.h>

#include <initializer_list>

#include "tests/kernels/cuda/emulation/device.h"

namespace beryl::emulation {

void init_barrier(uint32_t barrier, int num_arrivals);
void arrive(uint32_t barrier, uint32_t num_bytes);
void arrive_after_copies(uint32_t barrier);
void wait_barrier(uint32_t barrier, uint32_t parity);
void fence_async_proxy();
void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier,
                 std::initializer_list<int> coordinates);
void sync_some_threads(int id, int num_threads);

struct Wgmma {
  float* d;
  int num_cols;
  bool adds;
  bool b_is_transposed;
  bool a_is_in_registers;
  uint64_t a;  // descriptors
  uint64_t b;
  float a_rows[2][16];  // of registers: rows g and g + 8 of the warp's part
};
void fence_wgmma();
void start_wgmma(Wgmma product);
void commit_wgmma();
void wait_wgmma(int num_pending);

// Stands in for cuTensorMapEncodeTiled.
CUresult encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                           const cuuint64_t* sizes, const cuuint64_t* strides,
                           const cuuint32_t* box, const cuuint32_t* element_strides,
                           CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill);

}  // namespace beryl::emulation

#undef __grid_constant__
#define __grid_constant__

namespace beryl::kernels::cuda {

inline void init_barrier(uint32_t barrier, int num_arrivals) {
  emulation::init_barrier(barrier, num_arrivals);
}
inline void publish_barriers() {}
inline void arrive(uint32_t barrier) {
  emulation::arrive(barrier, 0);
}
inline void arrive_expecting(uint32_t barrier, uint32_t num_bytes) {
  emulation::arrive(barrier, num_bytes);
}
inline void arrive_after_copies(uint32_t barrier) {
  emulation::arrive_after_copies(barrier);
}
inline void wait_barrier(uint32_t barrier, uint32_t parity) {
  emulation::wait_barrier(barrier, parity);
}
inline void fence_async_proxy() {
  emulation::fence_async_proxy();
}
template <typename... Coordinates>
void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier,
                 Coordinates... coordinates) {
  emulation::copy_tensor(to, map, barrier, {coordinates...});
}
inline void prefetch_tensor_map(const CUtensorMap&) {}
template <int kRegisters>
void give_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void take_registers() {
  give_registers<kRegisters>();
}
inline void sync_some_threads(int id, int num_threads) {
  emulation::sync_some_threads(id, num_threads);
}

template <int kSize>
void fence_result(float (&)[kSize]) {}
inline void fence_wgmma() {
  emulation::fence_wgmma();
}
inline void commit_wgmma() {
  emulation::commit_wgmma();
}
template <int kPending>
void wait_wgmma() {
  emulation::wait_wgmma(kPending);
}

template <int kCols, bool kTransposed = false, int kSize>
void wgmma(float (&d)[kSize], uint64_t a, uint64_t b, bool adds) {
  static_assert(kCols % 8 == 0 && kCols >= 8 && kCols <= 256 && kSize >= kCols / 2);
  emulation::start_wgmma({d, kCols, adds, kTransposed, false, a, b, {}});
}

template <int kCols, bool kTransposed = false, int kSize>
void wgmma(float (&d)[kSize], const uint32_t (&a)[4], uint64_t b, bool adds) {
  static_assert(kCols % 8 == 0 && kCols >= 8 && kCols <= 256 && kSize >= kCols / 2);
  emulation::Wgmma product = {d, kCols, adds, kTransposed, true, 0, b, {}};
  const MmaOperands mine = {{a[0], a[1], a[2], a[3]}, {}};
  const unsigned char* all = emulation::exchange("wgmma a", &mine, sizeof(mine));
  const int first_lane = emulation::lane() / 4 * 4;
  for (int row = 0; row < 2; ++row) {
    for (int k = 0; k < 16; k += 2) {
      const auto& from = emulation::lane_value<MmaOperands>(all, first_lane + k % 8 / 2);
      const uint32_t pair = from.a[row + 2 * (k / 8)];
      product.a_rows[row][k] = low_half(pair);
      product.a_rows[row][k + 1] = high_half(pair);
    }
  }
  emulation::start_wgmma(product);
}

}  // namespace beryl::kernels::cuda
