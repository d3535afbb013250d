// Attention of long segments on sliding layers with wgmma (sm_90a). A block holds 128 queries of
// one KV head (64 rows times the 2 heads that share it), 64 for each of two warpgroups; a third one
// copies tiles of 64 keys, K and V of a tile apart, in the order in which they are used. A
// warpgroup starts the scores of the next tile before it adds P V of this one, so that its softmax
// runs while the products do.
#include "kernels/cuda/attention_ring.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kQueries = kConsumers * kWarpgroupRows;
constexpr int kKeys = 64;  // of a tile
constexpr int kColumns = kHeadDimSliding / kColumnNumbers;
constexpr int kColumnBytes = kKeys * kSwizzleRowBytes;  // of a tile
constexpr int kQueryColumnBytes = kWarpgroupRows * kSwizzleRowBytes;

using HalfRing = Ring<5, kColumns * kColumnBytes>;  // K or V of a tile

// Place of a tile's K and V among all that is copied: K0 K1 V0 K2 V1 .. V(n-1).
__device__ int key_place(int t) {
  return t == 0 ? 0 : 2 * t - 1;
}
__device__ int value_place(int t, int num_tiles) {
  return t == num_tiles - 1 ? 2 * t + 1 : 2 * t + 2;
}

struct Layout {
  static constexpr int kRing = kConsumers * kColumns * kQueryColumnBytes;
  static constexpr int kRingBarriers = kRing + HalfRing::kBytes;
  static constexpr int kEdgeBarrier = kRingBarriers + HalfRing::kBarrierBytes;
  static constexpr int kBytes = kEdgeBarrier + 8;
};

// By the threads of both consumers.
__device__ void load_queries(const AttentionArgs& args, const Block& block, uint32_t to) {
  constexpr int kChunks = kColumns * 8;
  for (int i = static_cast<int>(threadIdx.x); i < kQueries * kChunks; i += kConsumerThreads) {
    const int query = i / kChunks;
    const int column = query / kWarpgroupRows * kColumns + i % kChunks / 8;
    const bool is_valid = query < block.num_queries;
    const uint16_t* from = args.q;
    if (is_valid) from += block.result(args, query) * kHeadDimSliding + i % kChunks * 8;
    copy_async(to + static_cast<uint32_t>(column * kQueryColumnBytes) +
                   swizzled_offset(query % kWarpgroupRows, i % 8),
               from, is_valid);
  }
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
  sync_some_threads(1, kConsumerThreads);
}

__device__ void start_scores(uint32_t queries, uint32_t keys, float (&scores)[kKeys / 2]) {
  const uint64_t a = k_major_operand(queries);
  const uint64_t b = k_major_operand(keys);
  fence_result(scores);
  fence_wgmma();
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      wgmma<kKeys>(scores, moved(a, i * kQueryColumnBytes + step * 32),
                   moved(b, i * kColumnBytes + step * 32), i + step > 0);
    }
  }
  commit_wgmma();
}

__device__ void start_values(uint32_t values, const uint32_t (&probs)[kKeys / 16][4],
                             float (&sums)[kHeadDimSliding / 2]) {
  const uint64_t b = column_major_operand(values, kColumnBytes);
  fence_result(sums);
  fence_wgmma();
#pragma unroll
  for (int step = 0; step < kKeys / 16; ++step) {
    wgmma<kHeadDimSliding, true>(sums, probs[step], moved(b, step * 16 * kSwizzleRowBytes), true);
  }
  commit_wgmma();
}

__device__ void consume(const AttentionArgs& args, const Block& block, const Output& output,
                        uint32_t queries, const HalfRing& ring, int begin, int num_tiles) {
  const int first_query = warpgroup_idx() * kWarpgroupRows + first_product_row();
  queries += static_cast<uint32_t>(warpgroup_idx() * kColumns * kQueryColumnBytes);
  RowSoftmax state = begin_softmax(args, block, first_query);
  float sums[kHeadDimSliding / 2] = {};
  float scores[kKeys / 2];
  uint32_t probs[kKeys / 16][4];
  float factor[2];
  ring.wait_full(0);
  start_scores(queries, ring.tile(0), scores);
  wait_wgmma<0>();
  fence_result(scores);
  ring.release(0);
  update_softmax<kKeys>(scores, begin, state, factor);
  pack_probs<kKeys>(scores, probs);
  for (int t = 0; t + 1 < num_tiles; ++t) {
    const int key = key_place(t + 1);
    const int value = value_place(t, num_tiles);
    ring.wait_full(key);
    start_scores(queries, ring.tile(key), scores);
    ring.wait_full(value);
    start_values(ring.tile(value), probs, sums);
    wait_wgmma<1>();
    fence_result(scores);
    ring.release(key);
    update_softmax<kKeys>(scores, begin + (t + 1) * kKeys, state, factor);
    wait_wgmma<0>();
    fence_result(sums);
    ring.release(value);
    pack_probs<kKeys>(scores, probs);
    scale_rows(sums, factor);
  }
  const int last = value_place(num_tiles - 1, num_tiles);
  ring.wait_full(last);
  start_values(ring.tile(last), probs, sums);
  wait_wgmma<0>();
  fence_result(sums);
  const float total[2] = {row_total(state.total[0]), row_total(state.total[1])};
  write_rows<kHeadDimSliding>(args, block, output, first_query, 0, state, total, sums);
}

__device__ void produce(TileProducer<kKeys, kColumns, HalfRing>& producer, int begin,
                        int num_tiles) {
  producer.copy(begin, 0);
  for (int t = 0; t < num_tiles; ++t) {
    if (t + 1 < num_tiles) producer.copy(begin + (t + 1) * kKeys, 0);
    producer.copy(begin + t * kKeys, 1);
  }
}

// Grid (splits, KV heads, tiles).
__global__ void __launch_bounds__(kRingThreads, 1)
    sliding_attention_kernel(AttentionArgs args, AttentionPass pass, Output output,
                             const __grid_constant__ CUtensorMap map) {
  BERYL_DYNAMIC_SHARED(unsigned char, memory);
  const uint32_t queries = shared_address(memory);
  const HalfRing ring = {queries + Layout::kRing, queries + Layout::kRingBarriers};
  let_next_kernel_start();
  Block block;
  const bool has_work =
      find_work(args, pass, {kQueries, kKeys}, static_cast<int>(gridDim.z - 1 - blockIdx.z), block);
  if (threadIdx.x == 0) {
    ring.init();
    init_barrier(queries + Layout::kEdgeBarrier, 1);
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
      TileProducer<kKeys, kColumns, HalfRing> producer = {
          args, block, map, ring, queries + Layout::kEdgeBarrier, memory + Layout::kRing};
      produce(producer, begin, num_tiles);
    }
  } else {
    take_registers<kConsumerRegisters>();
    load_queries(args, block, queries);
    consume(args, block, output, queries, ring, begin, num_tiles);
  }
}

}  // namespace

int sliding_wgmma_shared_bytes() {
  return Layout::kBytes;
}

cudaError_t launch_sliding_wgmma_attention(const AttentionArgs& args, const AttentionPass& pass,
                                           const AttentionPartials& partials, LaunchStream stream) {
  return launch_ring_kernel(sliding_attention_kernel, Layout::kBytes, args, pass, partials, stream);
}

}  // namespace beryl::kernels::cuda
