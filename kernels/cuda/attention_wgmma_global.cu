// Attention of long segments on global layers with wgmma (sm_90a). A block holds 64 queries of one
// KV head (8 rows times the 8 heads that share it); key tiles are 32 cache entries of 640 numbers
// that serve as K (their rotated part and those numbers of V that do not rotate) and as V. One
// warpgroup copies tiles; two compute, each with half of the output's columns:
//
//   tile t belongs to warpgroup t % 2, which computes its scores S (64 x 32), raises the rows'
//   maximum, and leaves P, the maximum and the factor for earlier sums to the other one; P lies
//   where the tile's rotated K did. Both add P V for their columns, tile by tile in order.
//
// So one warpgroup's softmax runs while the other multiplies, and scores are computed once.
#include "kernels/cuda/attention_ring.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kQueries = kWarpgroupRows;
constexpr int kKeys = 32;                                                 // of a tile
constexpr int kColumns = (kHeadDimGlobal + 2 * kPairs) / kColumnNumbers;  // of 64 numbers
constexpr int kValueColumns = kHeadDimGlobal / kColumnNumbers;
constexpr int kQueryColumns = 8;
constexpr int kColumnBytes = kKeys * kSwizzleRowBytes;
constexpr int kQueryColumnBytes = kQueries * kSwizzleRowBytes;
constexpr int kOutputColumns = kHeadDimGlobal / kConsumers;  // of a warpgroup

using KeyRing = Ring<4, kColumns * kColumnBytes>;

// P of a tile: 64 rows of 128 bytes, the first 32 numbers used.
static_assert((kColumns - kValueColumns) * kColumnBytes == kQueries * kSwizzleRowBytes);

struct Layout {
  static constexpr int kRing = kQueryColumns * kQueryColumnBytes;
  static constexpr int kFactors = kRing + KeyRing::kBytes;
  static constexpr int kTops = kFactors + KeyRing::kNumSlots * kQueries * 4;
  static constexpr int kTotals = kTops + KeyRing::kNumSlots * kQueries * 4;
  static constexpr int kRingBarriers = kTotals + kConsumers * kQueries * 4;
  static constexpr int kReadyBarriers = kRingBarriers + KeyRing::kBarrierBytes;
  static constexpr int kEdgeBarrier = kReadyBarriers + KeyRing::kNumSlots * 8;
  static constexpr int kBytes = kEdgeBarrier + 8;
};

struct Shared {
  unsigned char* base;

  __device__ uint32_t at(int offset) const {
    return shared_address(base) + static_cast<uint32_t>(offset);
  }
  __device__ KeyRing ring() const { return {at(Layout::kRing), at(Layout::kRingBarriers)}; }
  // P of tile t is there, and so are factors and tops.
  __device__ uint32_t ready(int t) const {
    return at(Layout::kReadyBarriers + t % KeyRing::kNumSlots * 8);
  }
  __device__ static int probs(int t) {  // offset
    return Layout::kRing + (t % KeyRing::kNumSlots * kColumns + kValueColumns) * kColumnBytes;
  }
  __device__ float* factors(int t) const {
    return reinterpret_cast<float*>(base + Layout::kFactors) + t % KeyRing::kNumSlots * kQueries;
  }
  __device__ float* tops(int t) const {
    return reinterpret_cast<float*>(base + Layout::kTops) + t % KeyRing::kNumSlots * kQueries;
  }
  __device__ float* totals(int warpgroup) const {
    return reinterpret_cast<float*>(base + Layout::kTotals) + warpgroup * kQueries;
  }
};

// By the threads of both consumers.
__device__ void load_queries(const AttentionArgs& args, const Block& block, uint32_t to) {
  constexpr int kChunks = kQueryColumns * 8;
  for (int i = static_cast<int>(threadIdx.x); i < kQueries * kChunks; i += kConsumerThreads) {
    const int query = i / kChunks;
    const int column = i % kChunks / 8;
    const int chunk = i % 8;
    const bool is_valid = query < block.num_queries;
    const uint16_t* from = args.q;
    if (is_valid)
      from += block.result(args, query) * kHeadDimGlobal + query_dim<true>(column) + chunk * 8;
    copy_async(
        to + static_cast<uint32_t>(column * kQueryColumnBytes) + swizzled_offset(query, chunk),
        from, is_valid);
  }
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
  sync_some_threads(1, kConsumerThreads);
}

struct Consumer {
  Shared shared;
  int warpgroup;
  RowSoftmax state;
  float sums[kOutputColumns / 2];

  __device__ void start_scores(int t, float (&scores)[kKeys / 2]) {
    const uint64_t queries = k_major_operand(shared.at(0));
    const uint64_t keys = k_major_operand(shared.ring().tile(t));
    fence_result(scores);
    fence_wgmma();
#pragma unroll
    for (int i = 0; i < kQueryColumns; ++i) {
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        wgmma<kKeys>(scores, moved(queries, i * kQueryColumnBytes + step * 32),
                     moved(keys, key_column<true>(i) * kColumnBytes + step * 32), i + step > 0);
      }
    }
    commit_wgmma();
  }

  __device__ uint64_t values(int t) const {
    constexpr int kMine = kOutputColumns / kColumnNumbers * kColumnBytes;
    return column_major_operand(shared.ring().tile(t) + static_cast<uint32_t>(warpgroup * kMine),
                                kColumnBytes);
  }

  __device__ void start_own_values(int t, const float (&factor)[2],
                                   const uint32_t (&probs)[kKeys / 16][4]) {
    const uint64_t v = values(t);
    scale_rows(sums, factor);
    fence_result(sums);
    fence_wgmma();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      wgmma<kOutputColumns, true>(sums, probs[step], moved(v, step * 16 * kSwizzleRowBytes), true);
    }
    commit_wgmma();
  }

  // Of a tile of the other warpgroup, once it has left P.
  __device__ void start_other_values(int t) {
    wait_barrier(shared.ready(t), KeyRing::parity(t));
    float factor[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_product_row() + h * 8;
      factor[h] = shared.factors(t)[row];
      state.top[h] = shared.tops(t)[row];
      state.total[h] *= factor[h];
    }
    const uint64_t probs = k_major_operand(shared.at(Shared::probs(t)));
    const uint64_t v = values(t);
    scale_rows(sums, factor);
    fence_result(sums);
    fence_wgmma();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      wgmma<kOutputColumns, true>(sums, moved(probs, step * 32),
                                  moved(v, step * 16 * kSwizzleRowBytes), true);
    }
    commit_wgmma();
  }

  // For the other warpgroup.
  __device__ void leave_probs(int t, const float (&factor)[2],
                              const uint32_t (&probs)[kKeys / 16][4]) {
    unsigned char* to = shared.base + Shared::probs(t);
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_product_row() + i % 2 * 8;
        *reinterpret_cast<uint32_t*>(to + swizzled_offset(row, step * 2 + i / 2) +
                                     lane_idx() % 4 * 4) = probs[step][i];
      }
    }
    if (lane_idx() % 4 == 0) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        shared.factors(t)[first_product_row() + h * 8] = factor[h];
        shared.tops(t)[first_product_row() + h * 8] = state.top[h];
      }
    }
    fence_async_proxy();
    arrive(shared.ready(t));
  }

  // Scores of tile t are there: its softmax, for both, and P V.
  __device__ void finish_own(int t, int position, float (&scores)[kKeys / 2]) {
    float factor[2];
    uint32_t probs[kKeys / 16][4];
    fence_result(scores);
    update_softmax<kKeys>(scores, position, state, factor);
    pack_probs<kKeys>(scores, probs);
    leave_probs(t, factor, probs);
    wait_wgmma<0>();
    if (t > 0) shared.ring().release(t - 1);
    start_own_values(t, factor, probs);
  }

  __device__ void add_tiles(int begin, int num_tiles) {
    const KeyRing ring = shared.ring();
    int t = warpgroup;
    if (t == 0) {
      float scores[kKeys / 2];
      ring.wait_full(0);
      start_scores(0, scores);
      wait_wgmma<0>();
      finish_own(0, begin, scores);
      t = kConsumers;
    }
    for (; t < num_tiles; t += kConsumers) {
      float scores[kKeys / 2];
      ring.wait_full(t);
      start_scores(t, scores);
      wait_wgmma<1>();
      if (t >= kConsumers) ring.release(t - kConsumers);
      start_other_values(t - 1);
      wait_wgmma<1>();
      finish_own(t, begin + t * kKeys, scores);
    }
    wait_wgmma<0>();
    if (t - 1 < num_tiles) {  // the last tile is the other's
      start_other_values(t - 1);
      wait_wgmma<0>();
    }
    fence_result(sums);
  }

  __device__ void write(const AttentionArgs& args, const Block& block, const Output& output) {
    float total[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total[h] = row_total(state.total[h]);
      if (lane_idx() % 4 == 0) shared.totals(warpgroup)[first_product_row() + h * 8] = total[h];
    }
    sync_some_threads(1, kConsumerThreads);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_product_row() + h * 8;
      total[h] = shared.totals(0)[row] + shared.totals(1)[row];
    }
    write_rows<kHeadDimGlobal>(args, block, output, first_product_row(), warpgroup * kOutputColumns,
                               state, total, sums);
  }
};

__device__ void produce(TileProducer<kKeys, kColumns, KeyRing>& producer, int begin,
                        int num_tiles) {
  for (int t = 0; t < num_tiles; ++t) producer.copy(begin + t * kKeys, 0);
}

// Grid (splits, KV heads, tiles); the last tiles of rows, which see most keys, come first.
__global__ void __launch_bounds__(kRingThreads, 1)
    global_attention_kernel(AttentionArgs args, AttentionPass pass, Output output,
                            const __grid_constant__ CUtensorMap map) {
  BERYL_DYNAMIC_SHARED(unsigned char, memory);
  const Shared shared = {memory};
  let_next_kernel_start();
  Block block;
  const bool has_work =
      find_work(args, pass, {kQueries, kKeys}, static_cast<int>(gridDim.z - 1 - blockIdx.z), block);
  if (threadIdx.x == 0) {
    shared.ring().init();
    for (int t = 0; t < KeyRing::kNumSlots; ++t) init_barrier(shared.ready(t), kWarpgroupThreads);
    init_barrier(shared.at(Layout::kEdgeBarrier), 1);
    publish_barriers();
  }
  __syncthreads();
  wait_for_earlier_kernels();
  if (!has_work) return;
  output = output.of_split(args);
  if (block.keys.first > block.keys.last) return write_nothing(args, block, output);

  const int begin = block.keys.first / kBoxRows * kBoxRows;
  const int num_tiles = (block.keys.last - begin) / kKeys + 1;
  if (warpgroup_idx() == kConsumers) {
    give_registers<kProducerRegisters>();
    if (warp_idx() == kConsumerThreads / kWarpSize) {
      TileProducer<kKeys, kColumns, KeyRing> producer = {
          args, block, map, shared.ring(), shared.at(Layout::kEdgeBarrier), memory + Layout::kRing};
      produce(producer, begin, num_tiles);
    }
  } else {
    take_registers<kConsumerRegisters>();
    load_queries(args, block, shared.at(0));
    Consumer consumer = {
        shared, warpgroup_idx(), begin_softmax(args, block, first_product_row()), {}};
    consumer.add_tiles(begin, num_tiles);
    consumer.write(args, block, output);
  }
}

}  // namespace

int global_wgmma_shared_bytes() {
  return Layout::kBytes;
}

cudaError_t launch_global_wgmma_attention(const AttentionArgs& args, const AttentionPass& pass,
                                          const AttentionPartials& partials, LaunchStream stream) {
  return launch_ring_kernel(global_attention_kernel, Layout::kBytes, args, pass, partials, stream);
}

}  // namespace beryl::kernels::cuda
