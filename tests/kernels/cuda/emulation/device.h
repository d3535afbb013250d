// A GPU made of fibers: kernels/cuda compiled as C++ and run thread by thread, so that index
// arithmetic, barriers and memory accesses are tested on machines without a GPU. Force-included
// before each kernel source (BERYL_EMULATED_DEVICE).
//
// A block runs at a time, all its threads as fibers of one host thread, which makes static
// variables shared memory. Collectives wait for all lanes of a warp that have not returned; a
// collective that not all reach, or two different ones at a time, end the program. Asynchronous
// copies land when they are waited for, not before. Shared memory starts as NaN; device memory ends
// at a page that cannot be accessed.
//
// Threads of kernels that may overlap must all have waited for earlier kernels when they end.
//
// What it cannot show: what such a kernel does before it waits, races that need another order of
// warps, speed, real rounding of exp and tanh.
#pragma once

#include <cuda_runtime.h>
// After it: what nvcc gives a meaning to.
#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

namespace beryl::emulation {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

// What a fiber sees of its place; set before it runs.
extern Index thread_index, block_index;
extern dim3 block_dimensions, grid_dimensions;

// Runs `thread_body` once for each thread of each block. Not reentrant.
void run_grid(dim3 grid, int num_threads, int shared_bytes,
              const std::function<void()>& thread_body);

// Runs `grid` at once, or later, once for each launch of the graph that is being captured on
// `stream`.
void launch_on(cudaStream_t stream, std::function<void()> grid);

// Runs `work` while host code, which kernels are here, may touch device memory.
void with_device_memory(const std::function<void()>& work);

// From now on copies, waits and questions about kernels fail with it, as after a fault of a kernel;
// cudaSuccess ends that.
void plant_error(cudaError_t error);

void block_barrier();

constexpr int kLanes = 32;
constexpr size_t kMaxLaneBytes = 64;

// All lanes of the warp give `num_bytes`; returns [kLanes][kMaxLaneBytes] of them, valid until this
// lane's next collective. `operation` must be the same on all lanes. Lanes that returned give
// zeros.
const unsigned char* exchange(const char* operation, const void* mine, size_t num_bytes);
int lane();
uint32_t lanes_of_collective();  // mask of lanes at this lane's last collective

unsigned char* shared_memory();
int shared_memory_bytes();
// Address in shared memory, 16 bytes, checked.
unsigned char* shared_at(uint32_t address);

// Runs a grid of which every thread must call count_wait() once.
void run_waiting_grid(dim3 grid, int num_threads, int shared_bytes,
                      const std::function<void()>& thread_body);
void count_wait();

// For the emulation itself.
[[noreturn]] void fail(const char* what);
int current_thread();
void pause();          // lets other threads run, until one of them gets further
void note_progress();  // this one has: a round of all threads without progress is a deadlock
unsigned char* shared_bytes_at(uint32_t address, size_t num_bytes);  // checked

// Parts of hopper.h that the life of blocks and threads calls.
void begin_hopper_block(int num_threads);
void end_hopper_thread();
void end_hopper_block();
void note_landed_copies();

struct Copy {
  uint32_t to;
  const void* from;
  bool valid;
};
std::vector<Copy> take_copies();  // of this thread, those that have not landed
void land(const Copy& copy);

void start_copy(uint32_t to, const void* from, bool valid);
void commit_copies();
void wait_copies(int num_pending);

template <typename T>
const T& lane_value(const unsigned char* all, int source) {
  return *reinterpret_cast<const T*>(all + static_cast<size_t>(source) * kMaxLaneBytes);
}

template <typename T>
T shuffle(const char* operation, T value, int source) {
  static_assert(sizeof(T) <= kMaxLaneBytes && std::is_trivially_copyable_v<T>);
  const unsigned char* all = exchange(operation, &value, sizeof(value));
  if (source < 0 || source >= kLanes) return value;
  return lane_value<T>(all, source);
}

}  // namespace beryl::emulation

#define threadIdx ::beryl::emulation::thread_index
#define blockIdx ::beryl::emulation::block_index
#define blockDim ::beryl::emulation::block_dimensions
#define gridDim ::beryl::emulation::grid_dimensions

inline void __syncthreads() {
  ::beryl::emulation::block_barrier();
}
inline void __syncwarp() {
  const char none = 0;
  (void)::beryl::emulation::exchange("syncwarp", &none, 1);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return ::beryl::emulation::shuffle("shfl_xor", value, ::beryl::emulation::lane() ^ mask);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int distance) {
  return ::beryl::emulation::shuffle("shfl_up", value, ::beryl::emulation::lane() - distance);
}
template <typename T>
T __shfl_sync(unsigned, T value, int source) {
  return ::beryl::emulation::shuffle("shfl", value, source);
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  namespace e = ::beryl::emulation;
  const unsigned char* all = e::exchange("ballot", &predicate, sizeof(predicate));
  unsigned mask = 0;
  for (int i = 0; i < e::kLanes; ++i) {
    if (e::lane_value<bool>(all, i) && (e::lanes_of_collective() >> i & 1) != 0) mask |= 1u << i;
  }
  return mask;
}
namespace beryl::emulation {
template <typename T, typename Join>
T reduce(const char* operation, T value, const Join& join) {
  const unsigned char* all = exchange(operation, &value, sizeof(value));
  T result = value;
  for (int i = 0; i < kLanes; ++i) {
    if (i != lane() && (lanes_of_collective() >> i & 1) != 0)
      result = join(result, lane_value<T>(all, i));
  }
  return result;
}
}  // namespace beryl::emulation
inline int __reduce_add_sync(unsigned, int value) {
  return ::beryl::emulation::reduce("reduce_add", value, [](int a, int b) { return a + b; });
}
inline int __reduce_min_sync(unsigned, int value) {
  return ::beryl::emulation::reduce("reduce_min", value,
                                    [](int a, int b) { return a < b ? a : b; });
}
inline int __reduce_max_sync(unsigned, int value) {
  return ::beryl::emulation::reduce("reduce_max", value,
                                    [](int a, int b) { return a > b ? a : b; });
}

template <typename T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to = before + value;
  return before;
}
inline void __threadfence() {}
inline unsigned atomicOr(unsigned* to, unsigned value) {
  const unsigned before = *to;
  *to = before | value;
  return before;
}
template <typename T>
T __ldg(const T* from) {
  return *from;
}
template <typename T>
T __ldcg(const T* from) {
  return *from;
}
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __ffs(int value) {
  return __builtin_ffs(value);
}
inline int __popc(unsigned value) {
  return __builtin_popcount(value);
}
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline int __float_as_int(float value) {
  return static_cast<int>(__float_as_uint(value));
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline unsigned long long __float2ull_rz(float value) {
  return static_cast<unsigned long long>(value);
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __expf_emulated(float x) {
  return std::exp(x);
}
#define __expf __expf_emulated
namespace beryl::kernels::cuda {
inline float exp2_fast(float x) {
  return std::exp2(x);
}
}  // namespace beryl::kernels::cuda

// CUDA's overloads of these take mixed unsigned widths too.
template <typename T>
inline T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
inline T max(T a, T b) {
  return a < b ? b : a;
}
using std::isnan;

#define BERYL_DYNAMIC_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(::beryl::emulation::shared_memory())

namespace beryl::kernels::cuda {

using bf16 = __nv_bfloat16;

template <typename... Parameters, typename... Arguments>
cudaError_t launch_kernel(void (*kernel)(Parameters...), dim3 grid, int num_threads,
                          int shared_bytes, cudaStream_t stream, Arguments... arguments) {
  emulation::launch_on(stream, [=] {
    emulation::run_grid(grid, num_threads, shared_bytes, [&] { kernel(arguments...); });
  });
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch_overlapping_kernel(void (*kernel)(Parameters...), dim3 grid, int num_threads,
                                      int shared_bytes, cudaStream_t stream,
                                      Arguments... arguments) {
  emulation::launch_on(stream, [=] {
    emulation::run_waiting_grid(grid, num_threads, shared_bytes, [&] { kernel(arguments...); });
  });
  return cudaSuccess;
}
inline void let_next_kernel_start() {}
inline void wait_for_earlier_kernels() {
  emulation::count_wait();
}
inline void begin_overlapping_kernel() {
  wait_for_earlier_kernels();
}

inline int32_t load_written(const int32_t* from) {
  return *from;
}

inline void prefetch(const bf16* from) {
  (void)*static_cast<const volatile uint16_t*>(reinterpret_cast<const uint16_t*>(from));
}

inline float low_half(uint32_t pair) {
  const uint32_t bits = pair << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline float high_half(uint32_t pair) {
  return low_half(pair >> 16);
}

struct MmaOperands {
  uint32_t a[4];
  uint32_t b[2];
};

// By the fragment layouts of the PTX manual for mma.m16n8k16: element (row, k) of a lies with lane
// (row % 8) * 4 + (k % 8) / 2, register row / 8 + 2 * (k / 8), half k % 2; element (k, col) of b
// with lane col * 4 + (k % 8) / 2, register k / 8.
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const MmaOperands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const unsigned char* all = emulation::exchange("mma", &mine, sizeof(mine));
  const int lane = emulation::lane();
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + (i / 2) * 8;
    const int col = (lane % 4) * 2 + i % 2;
    float sum = d[i];
    for (int k = 0; k < 16; k += 2) {
      const auto& from_a = emulation::lane_value<MmaOperands>(all, row % 8 * 4 + k % 8 / 2);
      const auto& from_b = emulation::lane_value<MmaOperands>(all, col * 4 + k % 8 / 2);
      const uint32_t x = from_a.a[row / 8 + 2 * (k / 8)];
      const uint32_t y = from_b.b[k / 8];
      sum += low_half(x) * low_half(y) + high_half(x) * high_half(y);
    }
    d[i] = sum;
  }
}

inline uint32_t shared_address(const void* pointer) {
  const auto* p = static_cast<const unsigned char*>(pointer);
  const std::ptrdiff_t at = p - emulation::shared_memory();
  if (at < 0 || at > emulation::shared_memory_bytes()) std::abort();
  return static_cast<uint32_t>(at);
}

inline void load_matrices_emulated(uint32_t (&r)[4], uint32_t address, bool transposed) {
  const unsigned char* all = emulation::exchange("ldmatrix", &address, sizeof(address));
  const int lane = emulation::lane();
  for (int i = 0; i < 4; ++i) {
    uint16_t halves[2];
    for (int j = 0; j < 2; ++j) {
      int row = lane / 4;
      int col = lane % 4 * 2 + j;
      if (transposed) std::swap(row, col);
      const unsigned char* from =
          emulation::shared_at(emulation::lane_value<uint32_t>(all, i * 8 + row));
      std::memcpy(&halves[j], from + col * 2, sizeof(uint16_t));
    }
    r[i] = static_cast<uint32_t>(halves[0]) | static_cast<uint32_t>(halves[1]) << 16;
  }
}
inline void load_matrices(uint32_t (&r)[4], uint32_t address) {
  load_matrices_emulated(r, address, false);
}
inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  load_matrices_emulated(r, address, true);
}

}  // namespace beryl::kernels::cuda

// Asynchronous copies.
namespace beryl::kernels::cuda {

inline void copy_async(uint32_t to_shared, const void* from, bool valid) {
  emulation::start_copy(to_shared, from, valid);
}
inline uint64_t drop_first_policy() {
  return 1;
}
inline void copy_async(uint32_t to_shared, const void* from, bool valid, uint64_t policy) {
  if (policy != drop_first_policy()) std::abort();
  emulation::start_copy(to_shared, from, valid);
}
inline void commit_copies() {
  emulation::commit_copies();
}
template <int kPending>
void wait_copies() {
  emulation::wait_copies(kPending);
}

}  // namespace beryl::kernels::cuda

#include "tests/kernels/cuda/emulation/hopper.h"
