#include "tests/kernels/cuda/emulation/hopper.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

namespace beryl::emulation {
namespace {

constexpr int kMaxRank = 5;
constexpr size_t kNumberBytes = 2;  // of a bf16
constexpr int kDepth = 16;          // k of one product
constexpr uint32_t kSwizzleRowBytes = 128;

// Eight bytes of shared memory.
struct Barrier {
  uint64_t num_arrivals : 16;
  uint64_t num_missing : 16;
  uint64_t num_bytes : 24;  // expected and not yet copied
  uint64_t parity : 8;      // of the phase that has not ended
};
static_assert(sizeof(Barrier) == 8);

// What a CUtensorMap holds here.
struct TensorMap {
  uint64_t magic;
  const unsigned char* base;
  uint64_t strides[kMaxRank];  // bytes; of the contiguous dimension: of a number
  uint32_t sizes[kMaxRank];
  uint16_t box[kMaxRank];
  uint8_t rank;
  uint8_t is_swizzled;
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));
constexpr uint64_t kMagic = 0x7465'6e73'6f72'6d61;

struct TensorCopy {
  TensorMap map;
  uint32_t to;
  uint32_t barrier;
  int at[kMaxRank];
};

// Of a thread at a barrier, once its copies have landed.
struct Arrival {
  std::vector<Copy> copies;
  uint32_t barrier;
};

struct ThreadProducts {
  std::vector<std::vector<Wgmma>> groups;
  std::vector<Wgmma> open;
  bool is_fenced = false;
  bool has_unseen_copies = false;
};

std::vector<TensorCopy> tensor_copies;
std::vector<Arrival> arrivals;
std::set<uint32_t> barriers_of_copies;  // at which threads arrive after their copies
std::vector<ThreadProducts> products;

ThreadProducts& mine() {
  return products[static_cast<size_t>(current_thread())];
}

Barrier& barrier_at(uint32_t address) {
  if (address % 8 != 0) fail("a barrier at an odd address");
  return *reinterpret_cast<Barrier*>(shared_bytes_at(address, sizeof(Barrier)));
}

Barrier& ready_barrier(uint32_t address) {
  Barrier& barrier = barrier_at(address);
  if (barrier.num_arrivals == 0 || barrier.parity > 1) fail("a barrier that nobody initialised");
  return barrier;
}

void end_phase_if_complete(Barrier& barrier) {
  if (barrier.num_missing > 0 || barrier.num_bytes > 0) return;
  barrier.num_missing = barrier.num_arrivals;
  barrier.parity ^= 1;
  note_progress();
}

void count_arrival(Barrier& barrier) {
  if (barrier.num_missing == 0) fail("more threads arrive at a barrier than it waits for");
  --barrier.num_missing;
  note_progress();
  end_phase_if_complete(barrier);
}

uint32_t swizzled(uint32_t address) {
  return address ^ ((address >> 7 & 7) << 4);
}

// Bytes of the box in shared memory, all of which the barrier counts.
uint64_t box_bytes(const TensorMap& map) {
  uint64_t count = kNumberBytes;
  for (int i = 0; i < map.rank; ++i) count *= map.box[i];
  return count;
}

void land(const TensorCopy& copy) {
  const TensorMap& map = copy.map;
  const uint64_t num_numbers = box_bytes(map) / kNumberBytes;
  for (uint64_t n = 0; n < num_numbers; ++n) {
    const unsigned char* from = map.base;
    bool is_inside = true;
    uint64_t rest = n;
    for (int i = 0; i < map.rank; ++i) {
      const int64_t at = copy.at[i] + static_cast<int64_t>(rest % map.box[i]);
      rest /= map.box[i];
      is_inside &= at >= 0 && at < map.sizes[i];
      from += at * static_cast<int64_t>(map.strides[i]);
    }
    const uint32_t linear = copy.to + static_cast<uint32_t>(n * kNumberBytes);
    unsigned char* to =
        shared_bytes_at(map.is_swizzled != 0 ? swizzled(linear) : linear, kNumberBytes);
    if (is_inside) {
      std::memcpy(to, from, kNumberBytes);
    } else {
      std::memset(to, 0, kNumberBytes);
    }
  }
}

// The copies that count at `barrier` have come.
void land_copies(uint32_t barrier) {
  const auto is_other = [barrier](const TensorCopy& copy) { return copy.barrier != barrier; };
  const auto landing = std::stable_partition(tensor_copies.begin(), tensor_copies.end(), is_other);
  for (auto copy = landing; copy != tensor_copies.end(); ++copy) {
    land(*copy);
    Barrier& state = ready_barrier(barrier);
    const uint64_t num_bytes = box_bytes(copy->map);
    if (num_bytes > state.num_bytes) fail("a barrier expects fewer bytes than are copied");
    state.num_bytes -= num_bytes;
    end_phase_if_complete(state);
  }
  tensor_copies.erase(landing, tensor_copies.end());
}

void land_arrivals(uint32_t barrier) {
  const auto is_other = [barrier](const Arrival& arrival) { return arrival.barrier != barrier; };
  const auto landing = std::stable_partition(arrivals.begin(), arrivals.end(), is_other);
  for (auto arrival = landing; arrival != arrivals.end(); ++arrival) {
    for (const Copy& copy : arrival->copies) land(copy);
    count_arrival(ready_barrier(barrier));
  }
  arrivals.erase(landing, arrivals.end());
}

// An operand of wgmma in shared memory.
struct Operand {
  uint32_t address, block_stride, group_stride;
  bool is_transposed;

  Operand(uint64_t descriptor, bool transposed)
      : address(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
        block_stride(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        group_stride(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4),
        is_transposed(transposed) {
    if (descriptor >> 62 != 1) fail("a wgmma operand without the swizzle of 128 bytes");
    if ((descriptor >> 49 & 7) != 0) fail("a wgmma operand with a base offset");
  }

  // k = 0..15 of row `row` of A or column `row` of B.
  void read(int row, float (&to)[kDepth]) const {
    const auto r = static_cast<uint32_t>(row);
    for (uint32_t k = 0; k < kDepth; ++k) {
      const uint32_t linear =
          is_transposed
              ? r / 64 * block_stride + r % 64 * 2 + k / 8 * group_stride + k % 8 * kSwizzleRowBytes
              : r / 8 * group_stride + r % 8 * kSwizzleRowBytes + k * 2;
      uint16_t bits;
      std::memcpy(&bits, shared_bytes_at(swizzled(address + linear), sizeof(bits)), sizeof(bits));
      to[k] = kernels::cuda::low_half(bits);
    }
  }
};

// This thread's part of the result.
void multiply(const Wgmma& product) {
  const int warp = current_thread() / kLanes % 4;
  const int g = lane() / 4;
  const int t = lane() % 4;
  float a[2][kDepth];
  for (int half = 0; half < 2; ++half) {
    if (product.a_is_in_registers) {
      std::copy(product.a_rows[half], product.a_rows[half] + kDepth, a[half]);
    } else {
      Operand(product.a, false).read(warp * 16 + g + half * 8, a[half]);
    }
  }
  const Operand b(product.b, product.b_is_transposed);
  for (int col = 0; col < product.num_cols; col += 8) {
    for (int j = 0; j < 2; ++j) {
      float column[kDepth];
      b.read(col + 2 * t + j, column);
      for (int half = 0; half < 2; ++half) {
        float& d = product.d[col / 2 + half * 2 + j];
        float sum = product.adds ? d : 0;
        for (int k = 0; k < kDepth; ++k) sum += a[half][k] * column[k];
        d = sum;
      }
    }
  }
}

}  // namespace

void begin_hopper_block(int num_threads) {
  tensor_copies.clear();
  arrivals.clear();
  barriers_of_copies.clear();
  products.assign(static_cast<size_t>(num_threads), {});
}

void end_hopper_thread() {
  if (!mine().groups.empty() || !mine().open.empty()) fail("products were never waited for");
}

void end_hopper_block() {
  if (!tensor_copies.empty() || !arrivals.empty()) fail("copies were never waited for");
}

void note_landed_copies() {
  mine().has_unseen_copies = true;
}

void init_barrier(uint32_t barrier, int num_arrivals) {
  if (num_arrivals < 1 || num_arrivals > 1024) fail("arrivals of a barrier");
  const auto count = static_cast<uint64_t>(num_arrivals);
  barrier_at(barrier) = {count, count, 0, 0};
}

void arrive(uint32_t barrier, uint32_t num_bytes) {
  if (mine().has_unseen_copies) fail("arrives after copies without fence_async_proxy()");
  Barrier& state = ready_barrier(barrier);
  state.num_bytes += num_bytes;
  count_arrival(state);
}

void arrive_after_copies(uint32_t barrier) {
  (void)ready_barrier(barrier);
  arrivals.push_back({take_copies(), barrier});
  barriers_of_copies.insert(barrier);
  note_progress();
}

void wait_barrier(uint32_t barrier, uint32_t parity) {
  if (parity > 1) fail("the parity of a phase is 0 or 1");
  for (;;) {
    land_copies(barrier);
    land_arrivals(barrier);
    if (ready_barrier(barrier).parity != parity) break;
    pause();
  }
  if (barriers_of_copies.count(barrier) > 0) mine().has_unseen_copies = true;
}

void fence_async_proxy() {
  mine().has_unseen_copies = false;
}

void copy_tensor(uint32_t to, const CUtensorMap& map, uint32_t barrier,
                 std::initializer_list<int> coordinates) {
  TensorCopy copy = {{}, to, barrier, {}};
  std::memcpy(&copy.map, &map, sizeof(copy.map));
  if (copy.map.magic != kMagic) fail("a tensor map that was not encoded");
  if (coordinates.size() != copy.map.rank) fail("coordinates of a tensor copy");
  if (to % (copy.map.is_swizzled != 0 ? 1024 : 128) != 0) fail("a tensor copy to an odd address");
  std::copy(coordinates.begin(), coordinates.end(), copy.at);
  (void)ready_barrier(barrier);
  tensor_copies.push_back(copy);
  note_progress();
}

void fence_wgmma() {
  mine().is_fenced = true;
}

void start_wgmma(Wgmma product) {
  const uint64_t operands[2] = {product.a, product.b};
  const unsigned char* all = exchange("wgmma", operands, sizeof(operands));
  if (std::memcmp(all, operands, sizeof(operands)) != 0) fail("wgmma operands differ in a warp");
  if (mine().has_unseen_copies) fail("wgmma after copies without fence_async_proxy()");
  if (!mine().is_fenced) fail("wgmma without fence_wgmma()");
  mine().open.push_back(product);
}

void commit_wgmma() {
  mine().groups.push_back(std::exchange(mine().open, {}));
}

void wait_wgmma(int num_pending) {
  ThreadProducts& thread = mine();
  if (!thread.open.empty()) fail("waits for products that were not committed");
  while (static_cast<int>(thread.groups.size()) > num_pending) {
    note_progress();
    pause();  // whoever believes that the operands are free may overwrite them now
    for (const Wgmma& product : thread.groups.front()) multiply(product);
    thread.groups.erase(thread.groups.begin());
  }
  thread.is_fenced = false;
}

CUresult encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* base,
                           const cuuint64_t* sizes, const cuuint64_t* strides,
                           const cuuint32_t* box, const cuuint32_t* element_strides,
                           CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const bool is_swizzled = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
  if (type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || rank < 2 || rank > kMaxRank ||
      interleave != CU_TENSOR_MAP_INTERLEAVE_NONE ||
      (!is_swizzled && swizzle != CU_TENSOR_MAP_SWIZZLE_NONE) ||
      reinterpret_cast<uintptr_t>(base) % 16 != 0 || box[0] * kNumberBytes % 16 != 0 ||
      (is_swizzled && box[0] * kNumberBytes > kSwizzleRowBytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  TensorMap result = {};
  result.magic = kMagic;
  result.base = static_cast<const unsigned char*>(base);
  result.rank = static_cast<uint8_t>(rank);
  result.is_swizzled = is_swizzled ? 1 : 0;
  for (cuuint32_t i = 0; i < rank; ++i) {
    const cuuint64_t stride = i == 0 ? kNumberBytes : strides[i - 1];
    if (sizes[i] == 0 || sizes[i] > uint64_t{1} << 32 || box[i] == 0 || box[i] > 256 ||
        element_strides[i] != 1 || (i > 0 && stride % 16 != 0) || stride >= uint64_t{1} << 40) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    result.sizes[i] = static_cast<uint32_t>(sizes[i]);
    result.box[i] = static_cast<uint16_t>(box[i]);
    result.strides[i] = stride;
  }
  std::memcpy(map, &result, sizeof(result));
  return CUDA_SUCCESS;
}

}  // namespace beryl::emulation
