// Many rows grouped by expert, on sm_90a: blocks stay for many tiles of the result, 128 weight rows
// (64 of gate and 64 of up with kGelu) by up to kMaxRows rows of x. Weights are operand a of wgmma,
// rows of x operand b, whose number follows the expert's rows in steps of 16: a tile does no more
// work than it has rows, and its weights are read once.
//
// One warpgroup brings operands into a ring of stages: weights by tensor copies, rows of x, which
// are anywhere, by copy_async. Two warpgroups multiply, 64 weight rows each, and write results
// while the next tile's operands are under way.
//
// Which weight row is which row of a tile is free: with kGelu 8 of gate and the 8 of up beside them
// alternate, so that both halves of a pair meet in one thread; otherwise even and odd ones of 16
// alternate in eights, so that a thread holds neighbours.
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/primitives.cuh"
#include "kernels/cuda/tensor_map.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kDepth = kSwizzleRowNumbers;  // k of a stage
constexpr int kChunks = kDepth / 8;         // of 16 bytes
constexpr int kWeightRows = 128;
constexpr int kWeightBytes = kWeightRows * kSwizzleRowBytes;
constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = (1 + kConsumers) * kWarpgroupThreads;
constexpr int kProducerRegisters = 56;
constexpr int kConsumerRegisters = 224;
constexpr int kRowsAtOnce = kWarpgroupThreads / kChunks;  // that one copy of every producer brings
constexpr int kRowUnit = 16;                              // of the width of a product

template <int kMaxRows, int kStages>
struct Shape {
  static constexpr int kStageBytes = kWeightBytes + kMaxRows * kSwizzleRowBytes;
  static constexpr int kBarriers = kStages * kStageBytes;  // offset; full, then empty ones
  static constexpr int kTables = kBarriers + 2 * kStages * 8;
  static int shared_bytes(int num_groups) {
    return kSwizzleAlignment + kTables + 2 * (num_groups + 1) * static_cast<int>(sizeof(int));
  }
};

// What a block knows of all groups, in shared memory.
struct Groups {
  int* first_item;  // [num_groups + 1]: items (tiles of the result) of earlier groups
  int* offsets;     // [num_groups + 1]: of rows
  int num_col_tiles;
};

// By one warp. Rows of a group are divided evenly over as few tiles as can hold them.
__device__ void count_items(const MatmulArgs& args, int max_rows, const Groups& groups) {
  int before = 0;
  for (int base = 0; base < args.num_groups; base += kWarpSize) {
    const int group = base + lane_idx();
    const bool exists = group < args.num_groups;
    const int begin = exists ? args.offsets[group] : 0;
    const int end = exists ? args.offsets[group + 1] : 0;
    const int items = (end - begin + max_rows - 1) / max_rows * groups.num_col_tiles;
    int inclusive = items;
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const int other = __shfl_up_sync(kAllLanes, inclusive, distance);
      if (lane_idx() >= distance) inclusive += other;
    }
    if (exists) {
      groups.first_item[group + 1] = before + inclusive;
      groups.offsets[group + 1] = end;
    }
    before += __shfl_sync(kAllLanes, inclusive, kWarpSize - 1);
  }
  if (lane_idx() == 0) {
    groups.first_item[0] = 0;
    groups.offsets[0] = args.offsets[0];
  }
}

// A tile of the result.
struct Item {
  int group = 0;
  int col_tile = 0;
  int begin = 0;  // row of the result
  int num_rows = 0;
};

// Items in order: groups, in them columns, in them rows, so that tiles of the same weights run at
// the same time. `item` is that of an earlier index, or new.
__device__ void find_item(const Groups& groups, int index, Item& item) {
  while (index >= groups.first_item[item.group + 1]) ++item.group;
  const int first = groups.first_item[item.group];
  const int num_row_tiles = (groups.first_item[item.group + 1] - first) / groups.num_col_tiles;
  item.col_tile = (index - first) / num_row_tiles;
  const int end = groups.offsets[item.group + 1];
  const int num_rows = end - groups.offsets[item.group];
  const int mean = (num_rows + num_row_tiles - 1) / num_row_tiles;
  const int rows_per_tile = (mean + kRowUnit - 1) / kRowUnit * kRowUnit;
  item.begin = groups.offsets[item.group] + (index - first) % num_row_tiles * rows_per_tile;
  item.num_rows = min(rows_per_tile, end - item.begin);
}

// The ring of stages. Both sides take its stages in the same order.
template <int kMaxRows, int kStages>
struct Ring {
  uint32_t base;
  int stage = 0;
  uint32_t round = 0;  // parity of how often the ring has been gone through

  __device__ uint32_t weights(int s) const {
    return base + static_cast<uint32_t>(s * Shape<kMaxRows, kStages>::kStageBytes);
  }
  __device__ uint32_t rows(int s) const { return weights(s) + kWeightBytes; }
  __device__ uint32_t full(int s) const {
    return base + static_cast<uint32_t>(Shape<kMaxRows, kStages>::kBarriers + s * 8);
  }
  __device__ uint32_t empty(int s) const { return full(s) + kStages * 8; }
  __device__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    round ^= 1;
  }
};

template <int kMaxRows, int kStages>
__device__ void copy_weights(const CUtensorMap& map, const Item& item, int k0,
                             const Ring<kMaxRows, kStages>& ring) {
  arrive_expecting(ring.full(ring.stage), kWeightBytes);
  copy_tensor(ring.weights(ring.stage), map, ring.full(ring.stage), k0, 0, 0,
              item.col_tile * (kWeightRows / 16), item.group);
}

template <int kMaxRows, int kStages>
__device__ void produce(const MatmulArgs& args, const CUtensorMap& map, const Groups& groups,
                        Ring<kMaxRows, kStages> ring) {
  const int thread = static_cast<int>(threadIdx.x);
  const int chunk = thread % kChunks;
  const int first_row = thread / kChunks;
  const int row_chunks = args.k / 8;
  const int num_items = groups.first_item[args.num_groups];
  const auto* x = reinterpret_cast<const uint4*>(args.x);
  Item item;
  for (int index = static_cast<int>(blockIdx.x); index < num_items;
       index += static_cast<int>(gridDim.x)) {
    find_item(groups, index, item);
    uint32_t sources[kMaxRows / kRowsAtOnce];  // in chunks
#pragma unroll
    for (int i = 0; i < kMaxRows / kRowsAtOnce; ++i) {
      const int row = item.begin + first_row + i * kRowsAtOnce;
      const bool exists = first_row + i * kRowsAtOnce < item.num_rows;
      const int source = !exists ? 0 : args.row_idx == nullptr ? row : args.row_idx[row];
      sources[i] = static_cast<uint32_t>(source) * static_cast<uint32_t>(row_chunks) +
                   static_cast<uint32_t>(chunk);
    }
    for (int k0 = 0; k0 < args.k; k0 += kDepth) {
      wait_barrier(ring.empty(ring.stage), ring.round ^ 1);
      if (thread == 0) copy_weights(map, item, k0, ring);
      const bool in_range = k0 / 8 + chunk < row_chunks;
      const uint32_t to = ring.rows(ring.stage) + swizzled_offset(first_row, chunk);
      const uint4* from = x + (in_range ? k0 / 8 : -chunk);
#pragma unroll
      for (int i = 0; i < kMaxRows / kRowsAtOnce; ++i) {
        if (first_row + i * kRowsAtOnce >= item.num_rows) break;
        copy_async(to + static_cast<uint32_t>(i * kRowsAtOnce * kSwizzleRowBytes),
                   from + sources[i], in_range);
      }
      arrive_after_copies(ring.full(ring.stage));
      ring.advance();
    }
  }
  commit_copies();
  wait_copies<0>();  // no thread ends before its copies
}

// sums [64 x kRows] of a warpgroup's weight rows and the rows of x, over all of k.
template <int kRows, int kMaxRows, int kStages>
__device__ void multiply(int k, int consumer, Ring<kMaxRows, kStages>& ring,
                         float (&sums)[kMaxRows / 2]) {
  const uint32_t first_weight = static_cast<uint32_t>(consumer * 64 * kSwizzleRowBytes);
  int previous = -1;
  fence_result(sums);
  for (int k0 = 0; k0 < k; k0 += kDepth) {
    wait_barrier(ring.full(ring.stage), ring.round);
    fence_async_proxy();  // for the rows of x
    fence_wgmma();
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step) {
      const uint32_t at = static_cast<uint32_t>(step) * 32;
      wgmma<kRows>(sums, k_major_operand(ring.weights(ring.stage) + first_weight + at),
                   k_major_operand(ring.rows(ring.stage) + at), k0 > 0 || step > 0);
    }
    commit_wgmma();
    wait_wgmma<1>();
    if (previous >= 0 && lane_idx() == 0) arrive(ring.empty(previous));
    previous = ring.stage;
    ring.advance();
  }
  wait_wgmma<0>();
  fence_result(sums);
  if (lane_idx() == 0) arrive(ring.empty(previous));
}

// The narrowest product that holds the tile's rows.
template <int kRows, int kMaxRows, int kStages>
__device__ void multiply_fitting(int num_rows, int k, int consumer, Ring<kMaxRows, kStages>& ring,
                                 float (&sums)[kMaxRows / 2]) {
  if constexpr (kRows < kMaxRows) {
    if (num_rows > kRows) {
      multiply_fitting<kRows + kRowUnit>(num_rows, k, consumer, ring, sums);
      return;
    }
  }
  multiply<kRows>(k, consumer, ring, sums);
}

// Lanes g and g ^ 1 exchange, so that each writes two neighbouring columns of one row.
template <int kMaxRows>
__device__ void store_gelu(const MatmulArgs& args, const Item& item, int consumer,
                           const float (&sums)[kMaxRows / 2]) {
  const MatmulJob& job = args.jobs[0];
  const int g = lane_idx() / 4;
  const bool is_odd = g % 2 != 0;
  const int block = item.col_tile * (kWeightRows / 16) + consumer * 4 + warp_idx() % 4;
  const int col = block * 8 + g / 2 * 2;
  auto* out = static_cast<bf16*>(job.out) + int64_t{item.begin} * job.num_cols + col;
#pragma unroll
  for (int i = 0; i < kMaxRows / 8; ++i) {
    if (i * 8 >= item.num_rows) break;
    const float first = gelu_tanh(sums[i * 4]) * sums[i * 4 + 2];
    const float second = gelu_tanh(sums[i * 4 + 1]) * sums[i * 4 + 3];
    const float other = __shfl_xor_sync(kAllLanes, is_odd ? first : second, 4);
    const int row = i * 8 + lane_idx() % 4 * 2 + (is_odd ? 1 : 0);
    if (row >= item.num_rows || col >= job.num_cols) continue;
    const __nv_bfloat162 pair =
        is_odd ? __floats2bfloat162_rn(other, second) : __floats2bfloat162_rn(first, other);
    *reinterpret_cast<__nv_bfloat162*>(out + int64_t{row} * job.num_cols) = pair;
  }
}

template <int kMaxRows>
__device__ void store_floats(const MatmulArgs& args, const Item& item, int consumer,
                             const float (&sums)[kMaxRows / 2]) {
  const MatmulJob& job = args.jobs[0];
  // A load between stores would wait for each of them.
  float scales[kMaxRows / kWarpSize];
#pragma unroll
  for (int i = 0; i < kMaxRows / kWarpSize; ++i) {
    const int row = i * kWarpSize + lane_idx();
    const bool has_scale = args.row_scale != nullptr && row < item.num_rows;
    scales[i] = has_scale ? args.row_scale[item.begin + row] : 1.0f;
  }
  const int block = item.col_tile * (kWeightRows / 16) + consumer * 4 + warp_idx() % 4;
  const int col = block * 16 + lane_idx() / 4 * 2;
  const int lane_row = lane_idx() % 4 * 2;
  float* to = static_cast<float*>(job.out) + int64_t{item.begin + lane_row} * job.num_cols + col;
  int num_left = col < job.num_cols ? item.num_rows - lane_row : 0;
#pragma unroll
  for (int i = 0; i < kMaxRows / 8; ++i) {
    if (i * 8 >= item.num_rows) break;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float scale = __shfl_sync(kAllLanes, scales[i / 4], i % 4 * 8 + lane_row + j);
      if (j >= num_left) continue;
      *reinterpret_cast<float2*>(to + int64_t{j} * job.num_cols) =
          make_float2(sums[i * 4 + j] * scale, sums[i * 4 + 2 + j] * scale);
    }
    to += int64_t{8} * job.num_cols;
    num_left -= 8;
  }
}

template <int kMaxRows, int kStages, bool kIsGelu>
__device__ void consume(const MatmulArgs& args, const Groups& groups,
                        Ring<kMaxRows, kStages> ring) {
  const int consumer = static_cast<int>(threadIdx.x) / kWarpgroupThreads - 1;
  const int num_items = groups.first_item[args.num_groups];
  Item item;
  for (int index = static_cast<int>(blockIdx.x); index < num_items;
       index += static_cast<int>(gridDim.x)) {
    find_item(groups, index, item);
    float sums[kMaxRows / 2];
    multiply_fitting<kRowUnit>(item.num_rows, args.k, consumer, ring, sums);
    if constexpr (kIsGelu) {
      store_gelu<kMaxRows>(args, item, consumer, sums);
    } else {
      store_floats<kMaxRows>(args, item, consumer, sums);
    }
  }
}

template <int kMaxRows, int kStages, bool kIsGelu>
__global__ void __launch_bounds__(kThreads, 1)
    warpgroup_kernel(MatmulArgs args, int num_col_tiles, const __grid_constant__ CUtensorMap map) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(unsigned char, shared);
  const uint32_t begin = shared_address(shared);
  Ring<kMaxRows, kStages> ring = {(begin + kSwizzleAlignment - 1) / kSwizzleAlignment *
                                  kSwizzleAlignment};
  auto* tables =
      reinterpret_cast<int*>(shared + (ring.base - begin) + Shape<kMaxRows, kStages>::kTables);
  const Groups groups = {tables, tables + args.num_groups + 1, num_col_tiles};
  if (threadIdx.x == 0) {
    prefetch_tensor_map(map);
    for (int s = 0; s < kStages; ++s) {
      init_barrier(ring.full(s), 1 + kWarpgroupThreads);
      init_barrier(ring.empty(s), kConsumers * kWarpgroupThreads / kWarpSize);
    }
    publish_barriers();
  }
  if (warp_idx() == 1) count_items(args, kMaxRows, groups);
  __syncthreads();
  if (threadIdx.x < kWarpgroupThreads) {
    give_registers<kProducerRegisters>();
    produce(args, map, groups, ring);
  } else {
    take_registers<kConsumerRegisters>();
    consume<kMaxRows, kStages, kIsGelu>(args, groups, ring);
  }
}

// Boxes of 128 weight rows in the order that the head of this file explains.
cudaError_t make_weight_map(const MatmulArgs& args, CUtensorMap& map) {
  const MatmulJob& job = args.jobs[0];
  const int64_t k = args.k;
  const bool is_gelu = args.epilogue == Epilogue::kGelu;
  const int64_t unit = is_gelu ? 8 : 16;
  return make_tensor_map(map, job.weight,
                         {{k, 1, kDepth},
                          {8, is_gelu ? k : 2 * k, 8},
                          {2, is_gelu ? job.up - job.weight : k, 2},
                          {job.num_cols / unit, unit * k, kWeightRows / 16},
                          {args.num_groups, args.weight_stride, 1}});
}

template <int kMaxRows, int kStages>
cudaError_t launch(const MatmulArgs& args, int num_blocks, LaunchStream stream) {
  CUtensorMap map;
  const cudaError_t error = make_weight_map(args, map);
  if (error != cudaSuccess) return error;
  const bool is_gelu = args.epilogue == Epilogue::kGelu;
  const int cols = is_gelu ? kWeightRows / 2 : kWeightRows;
  const int num_col_tiles = (args.jobs[0].num_cols + cols - 1) / cols;
  const auto kernel = is_gelu ? warpgroup_kernel<kMaxRows, kStages, true>
                              : warpgroup_kernel<kMaxRows, kStages, false>;
  return launch_overlapping_kernel(kernel, dim3(static_cast<unsigned>(num_blocks)), kThreads,
                                   Shape<kMaxRows, kStages>::shared_bytes(args.num_groups), stream,
                                   args, num_col_tiles, map);
}

}  // namespace

cudaError_t launch_warpgroup(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream) {
  switch (plan.tile_rows) {
    case 192:
      return launch<192, 5>(args, plan.num_blocks, stream);
    case 256:
      return launch<256, 4>(args, plan.num_blocks, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace beryl::kernels::cuda
