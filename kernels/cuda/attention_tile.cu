// Attention with tensor cores. A block holds up to kQueries queries of one KV head (rows times the
// query heads that share it) and walks over keys in tiles of 32. A tile lies in shared memory as
// rows of K and V (sliding: 256 + 256 numbers) or of V and the rotated part of K (global: 512 +
// 128, the 512 being both most of K and V), the next ones are copied meanwhile.
//
// Each tile takes three phases, with barriers between them:
//   scores   warps divide queries and keys; S [queries, 32] goes to shared memory
//   softmax  a few lanes a query: mask, running maximum, P as bf16, factor for what was summed
//   values   warps divide queries and value dimensions; sums stay in registers
#include <math_constants.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/group_tile.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kHeadDimSliding = 256;
constexpr int kHeadDimGlobal = 512;
constexpr int kPairs = 64;  // pairs of a global head that rotate
constexpr int kHalf = kHeadDimGlobal / 2;

template <bool kGlobal, int kQueriesOfBlock>
struct Config {
  static constexpr int kQueries = kQueriesOfBlock;
  static constexpr int kHeadDim = kGlobal ? kHeadDimGlobal : kHeadDimSliding;
  static constexpr int kKeyDim = kGlobal ? kHeadDimGlobal + 2 * kPairs : kHeadDimSliding;
  static constexpr int kTileDim = kGlobal ? kKeyDim : 2 * kHeadDim;  // numbers of a tile's row
  static constexpr int kValueBegin = kGlobal ? 0 : kHeadDim;         // of V in a tile's row
  static constexpr int kNumWarps = kQueries == 16 ? 4 : 8;
  static constexpr int kThreads = kNumWarps * kWarpSize;
  static constexpr int kQueryTiles = kQueries / 16;
  static constexpr int kParts = kNumWarps / kQueryTiles;  // warps that share 16 queries
  static constexpr int kKeysOfWarp = kKeyTile / kParts;
  static constexpr int kDimsOfWarp = kHeadDim / kParts;
  static constexpr int kScoreStride = kKeyTile + 4;  // floats
  static constexpr int kProbStride = kKeyTile + 8;   // bf16: rows 80 bytes apart, free of conflicts
  static constexpr int kLanesOfQuery = kThreads / kQueries;

  // Tiles in shared memory: as many as leave room for a second block of few queries on an SM.
  static constexpr int kStages = !kGlobal && kQueries == 16 ? 3 : 2;

  static constexpr int kQueryBytes = kQueries * kKeyDim * 2;
  static constexpr int kTileBytes = kKeyTile * kTileDim * 2;
  static constexpr int kScoreBytes = kQueries * kScoreStride * 4;
  static constexpr int kProbBytes = kQueries * kProbStride * 2;
  static constexpr int kSharedBytes =
      kQueryBytes + kStages * kTileBytes + kScoreBytes + kProbBytes + kQueries * 4;

  static_assert(kKeysOfWarp % 8 == 0 && kDimsOfWarp % 16 == 0);
  static_assert(kThreads % kKeyTile == 0 && kLanesOfQuery <= kWarpSize);
  static_assert(kQueryBytes % 128 == 0 && kTileBytes % 128 == 0 && kScoreBytes % 16 == 0);
};

// Byte offset of chunk `chunk` (8 numbers) of row `row`; rows are a multiple of 128 bytes. Eight
// rows of one chunk fall into different banks.
__device__ uint32_t row_offset(int row, int chunk, int row_numbers) {
  return static_cast<uint32_t>(row * row_numbers * 2 + ((chunk & ~7) | ((chunk ^ row) & 7)) * 16);
}

struct KeyRange {
  int first;
  int last;  // included
};

__device__ KeyRange visible_keys(const AttentionArgs& args, int row) {
  const int position = args.positions[row];
  if (args.shape.window == 0) return {0, position};
  return {max(0, position - args.shape.window + 1),
          args.visible_end == nullptr ? position : args.visible_end[row]};
}

// Keys that any row of the tile sees. By a whole warp, the same on all lanes.
__device__ KeyRange tile_keys(const AttentionArgs& args, const GroupTile& rows) {
  KeyRange range = {0x7fffffff, -1};
  for (int row = rows.begin + lane_idx(); row < rows.end; row += kWarpSize) {
    const KeyRange keys = visible_keys(args, row);
    range.first = min(range.first, keys.first);
    range.last = max(range.last, keys.last);
  }
  range.first = __reduce_min_sync(kAllLanes, range.first);
  range.last = __reduce_max_sync(kAllLanes, range.last);
  return range;
}

struct Block {
  GroupTile rows;
  int kv_head;
  int group;  // query heads of a KV head
  int num_queries;
  const int32_t* table;  // block ids of the segment, by block number
  KeyRange keys;         // of this block's split
};

template <typename C>
struct Shared {
  unsigned char* base;

  __device__ uint32_t queries() const { return shared_address(base); }
  __device__ uint32_t tile(int i) const {
    return queries() + static_cast<uint32_t>(C::kQueryBytes + i % C::kStages * C::kTileBytes);
  }
  __device__ float* scores() const {
    return reinterpret_cast<float*>(base + C::kQueryBytes + C::kStages * C::kTileBytes);
  }
  __device__ bf16* probs() const {
    return reinterpret_cast<bf16*>(base + C::kQueryBytes + C::kStages * C::kTileBytes +
                                   C::kScoreBytes);
  }
  __device__ float* factors() const {
    return reinterpret_cast<float*>(base + C::kQueryBytes + C::kStages * C::kTileBytes +
                                    C::kScoreBytes + C::kProbBytes);
  }
};

// Starts copying the queries side by side; on global layers in the order of a cache entry, zeros
// standing before the rotated dimensions of V.
template <bool kGlobal, typename C>
__device__ void start_queries(const AttentionArgs& args, const Block& block, uint32_t to) {
  constexpr int kChunks = C::kKeyDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < C::kQueryTiles * 16 * kChunks; i += C::kThreads) {
    const int query = i / kChunks;
    const int chunk = i % kChunks;
    int dim = chunk * 8;
    bool has_value = query < block.num_queries;
    if (kGlobal) {
      if (dim >= kHeadDimGlobal + kPairs) {
        dim += kHalf - kHeadDimGlobal - kPairs;
      } else if (dim >= kHeadDimGlobal) {
        dim -= kHeadDimGlobal;
      } else if (dim % kHalf < kPairs) {
        has_value = false;
      }
    }
    const uint16_t* from = args.q;
    if (has_value) {
      const int64_t row = block.rows.begin + query / block.group;
      const int64_t head = block.kv_head * block.group + query % block.group;
      from += (row * args.shape.num_heads + head) * C::kHeadDim + dim;
    }
    copy_async(to + row_offset(query, chunk, C::kKeyDim), from, has_value);
  }
}

// Starts copying the tile of keys [position, position + 32); keys outside the block's range become
// zeros, so that what unused or foreign slots hold cannot come in.
template <bool kGlobal, typename C>
__device__ void start_tile(const AttentionArgs& args, const Block& block, int position,
                           uint32_t tile) {
  constexpr int kThreadsOfKey = C::kThreads / kKeyTile;
  constexpr int kChunks = C::kTileDim / 8;
  static_assert(kChunks % kThreadsOfKey == 0);
  const int key = static_cast<int>(threadIdx.x) / kThreadsOfKey;
  const int p = position + key;
  const bool valid = p >= block.keys.first && p <= block.keys.last;
  const uint16_t* entry = valid ? args.cache.entry(block.table, block.kv_head, p) : args.cache.data;
  const int64_t value_offset = valid ? args.cache.value_offset - C::kHeadDim : 0;
#pragma unroll 4
  for (int i = 0; i < kChunks / kThreadsOfKey; ++i) {
    const int chunk = static_cast<int>(threadIdx.x) % kThreadsOfKey + i * kThreadsOfKey;
    const bool is_value = !kGlobal && chunk >= C::kHeadDim / 8;
    const uint16_t* from = entry;
    if (valid) from += chunk * 8 + (is_value ? value_offset : 0);
    copy_async(tile + row_offset(key, chunk, C::kTileDim), from, valid);
  }
}

// S of this warp's 16 queries and its part of the keys.
template <bool kGlobal, typename C>
__device__ void compute_scores(const Shared<C>& shared, uint32_t tile) {
  constexpr int kTiles = C::kKeysOfWarp / 8;
  const int lane = lane_idx();
  const int first_query = warp_idx() % C::kQueryTiles * 16;
  const int first_key = warp_idx() / C::kQueryTiles * C::kKeysOfWarp;
  float sums[2][kTiles][4] = {};  // of the even and the odd steps: two chains of dependent products
#pragma unroll 4
  for (int chunk = 0; chunk < C::kKeyDim / 8; chunk += 4) {  // 32 numbers: two mma steps
    // The queries' zeros: nothing to add.
    if (kGlobal && chunk < kHeadDimGlobal / 8 && chunk * 8 % kHalf < kPairs) continue;
    uint32_t a[2][4];
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      load_matrices(a[step],
                    shared.queries() + row_offset(first_query + (lane & 15),
                                                  chunk + step * 2 + (lane >> 4), C::kKeyDim));
    }
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      uint32_t b[4];
      load_matrices(
          b, tile + row_offset(first_key + t * 8 + (lane & 7), chunk + (lane >> 3), C::kTileDim));
      mma_bf16(sums[0][t], a[0], b[0], b[1]);
      mma_bf16(sums[1][t], a[1], b[2], b[3]);
    }
  }
  float* scores =
      shared.scores() + (first_query + lane / 4) * C::kScoreStride + first_key + (lane % 4) * 2;
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      scores[i / 2 * 8 * C::kScoreStride + t * 8 + i % 2] = sums[0][t][i] + sums[1][t][i];
    }
  }
}

// Running softmax of one query, the same on its lanes.
struct Softmax {
  KeyRange keys;  // that the query sees within the split
  float top;
  float total;
};

template <typename C>
__device__ void update_softmax(const Shared<C>& shared, int position, Softmax& state) {
  constexpr int kLanes = C::kLanesOfQuery;
  constexpr int kKeys = kKeyTile / kLanes;
  const int query = static_cast<int>(threadIdx.x) / kLanes;
  const int sub = static_cast<int>(threadIdx.x) % kLanes;
  const float* scores = shared.scores() + query * C::kScoreStride;
  float value[kKeys];
  float top = state.top;
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    const int p = position + sub + i * kLanes;
    const bool visible = p >= state.keys.first && p <= state.keys.last;
    value[i] = visible ? scores[sub + i * kLanes] : -CUDART_INF_F;
    top = fmaxf(top, value[i]);
  }
#pragma unroll
  for (int d = kLanes / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, d));
  const float base = top == -CUDART_INF_F ? 0.0f : top;  // nothing seen yet: exp(-inf) = 0
  const float factor = __expf(state.top - base);
  float sum = 0;
  bf16* probs = shared.probs() + query * C::kProbStride;
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    const float p = __expf(value[i] - base);
    sum += p;
    probs[sub + i * kLanes] = from_float<bf16>(p);
  }
#pragma unroll
  for (int d = kLanes / 2; d > 0; d /= 2) sum += __shfl_xor_sync(kAllLanes, sum, d);
  state.total = state.total * factor + sum;
  state.top = top;
  if (sub == 0) shared.factors()[query] = factor;
}

template <typename C>
using ValueSums = float[C::kDimsOfWarp / 8][4];

// sums = sums * factor + P V for this warp's 16 queries and its part of the dimensions.
template <typename C>
__device__ void add_values(const Shared<C>& shared, uint32_t tile, ValueSums<C>& sums) {
  const int lane = lane_idx();
  const int first_query = warp_idx() % C::kQueryTiles * 16;
  const int first_chunk = (C::kValueBegin + warp_idx() / C::kQueryTiles * C::kDimsOfWarp) / 8;
  const float low = shared.factors()[first_query + lane / 4];
  const float high = shared.factors()[first_query + lane / 4 + 8];
#pragma unroll
  for (int t = 0; t < C::kDimsOfWarp / 8; ++t) {
    sums[t][0] *= low;
    sums[t][1] *= low;
    sums[t][2] *= high;
    sums[t][3] *= high;
  }
  const uint32_t probs = shared_address(shared.probs());
#pragma unroll
  for (int step = 0; step < kKeyTile / 16; ++step) {
    uint32_t a[4];
    load_matrices(a, probs + static_cast<uint32_t>((first_query + (lane & 15)) * C::kProbStride +
                                                   step * 16 + (lane >> 4) * 8) *
                                 2);
    const int key = step * 16 + (lane & 7) + ((lane >> 3) & 1) * 8;
#pragma unroll
    for (int t = 0; t < C::kDimsOfWarp / 8; t += 2) {
      uint32_t b[4];
      load_matrices_transposed(b,
                               tile + row_offset(key, first_chunk + t + (lane >> 4), C::kTileDim));
      mma_bf16(sums[t], a, b[0], b[1]);
      mma_bf16(sums[t + 1], a, b[2], b[3]);
    }
  }
}

// Results of one split, to be merged; or of all keys, which are the shares of `out`.
struct Output {
  bool is_partial;
  AttentionPartials partials;  // of this split
};

// All threads of a query know its softmax; those that hold its sums need the total.
template <typename C>
__device__ void write_results(const AttentionArgs& args, const Block& block,
                              const Shared<C>& shared, const Softmax& state, const Output& output,
                              const ValueSums<C>& sums) {
  const int my_query = static_cast<int>(threadIdx.x) / C::kLanesOfQuery;
  const bool is_first = static_cast<int>(threadIdx.x) % C::kLanesOfQuery == 0;
  const auto result_row = [&](int query) {
    const int64_t row = block.rows.begin + query / block.group;
    return row * args.shape.num_heads + block.kv_head * block.group + query % block.group;
  };
  __syncthreads();  // factors have been read
  if (is_first) {
    shared.factors()[my_query] = output.is_partial ? 1.0f : 1.0f / state.total;
    if (output.is_partial && my_query < block.num_queries) {
      output.partials.top_total[result_row(my_query)] = make_float2(state.top, state.total);
    }
  }
  __syncthreads();
  const int first_query = warp_idx() % C::kQueryTiles * 16 + lane_idx() / 4;
  const int first_dim = warp_idx() / C::kQueryTiles * C::kDimsOfWarp + (lane_idx() % 4) * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = first_query + half * 8;
    if (query >= block.num_queries) continue;
    const float factor = shared.factors()[query];
    const int64_t at = result_row(query) * C::kHeadDim + first_dim;
#pragma unroll
    for (int t = 0; t < C::kDimsOfWarp / 8; ++t) {
      const float x = sums[t][half * 2] * factor;
      const float y = sums[t][half * 2 + 1] * factor;
      if (output.is_partial) {
        *reinterpret_cast<float2*>(output.partials.sums + at + t * 8) = make_float2(x, y);
      } else {
        *reinterpret_cast<__nv_bfloat162*>(args.out + at + t * 8) = __floats2bfloat162_rn(x, y);
      }
    }
  }
}

// Which rows and keys are this block's; false: none. Reads arrays of the batch only.
template <typename C>
__device__ bool find_work(const AttentionArgs& args, const AttentionPass& pass, Block& block) {
  block.group = args.shape.num_heads / args.shape.num_kv_heads;
  block.kv_head = static_cast<int>(blockIdx.y);
  if (!find_group_tile(args.query_start_loc, args.num_segments, C::kQueries / block.group,
                       {pass.min_rows, pass.max_rows}, static_cast<int>(blockIdx.z), block.rows)) {
    return false;  // every warp finds the same
  }
  block.num_queries = (block.rows.end - block.rows.begin) * block.group;
  block.table = args.cache.table(block.rows.group);
  const KeyRange keys = tile_keys(args, block.rows);
  // The same number of key tiles for every split but the last ones.
  const int begin = keys.first / kKeyTile * kKeyTile;
  const int tiles = (keys.last - begin) / kKeyTile + 1;
  const int split_keys = (tiles + pass.num_splits - 1) / pass.num_splits * kKeyTile;
  const int first = begin + static_cast<int>(blockIdx.x) * split_keys;
  block.keys = {max(keys.first, first), min(keys.last, first + split_keys - 1)};
  return true;
}

// A split without keys.
template <typename C>
__device__ void write_nothing(const AttentionArgs& args, const Block& block, const Output& output) {
  const int query = static_cast<int>(threadIdx.x);
  if (query >= block.num_queries) return;
  const int64_t row = block.rows.begin + query / block.group;
  output.partials
      .top_total[row * args.shape.num_heads + block.kv_head * block.group + query % block.group] =
      make_float2(-CUDART_INF_F, 0);
}

// Grid (splits, KV heads, tiles).
template <bool kGlobal, int kQueries>
__global__ void __launch_bounds__(Config<kGlobal, kQueries>::kThreads)
    attention_kernel(AttentionArgs args, AttentionPass pass, Output output) {
  using C = Config<kGlobal, kQueries>;
  BERYL_DYNAMIC_SHARED(unsigned char, memory);
  const Shared<C> shared = {memory};
  let_next_kernel_start();
  Block block;
  const bool has_work = find_work<C>(args, pass, block);
  Softmax state;
  const int my_query = static_cast<int>(threadIdx.x) / C::kLanesOfQuery;
  state.keys = {1, 0};
  state.top = -CUDART_INF_F;
  state.total = 0;
  if (has_work && my_query < block.num_queries) {
    state.keys = visible_keys(args, block.rows.begin + my_query / block.group);
    state.keys.first = max(state.keys.first, block.keys.first);
    state.keys.last = min(state.keys.last, block.keys.last);
  }
  wait_for_earlier_kernels();
  if (!has_work) return;
  if (output.is_partial) {
    const int64_t results = int64_t{blockIdx.x} * args.num_rows * args.shape.num_heads;
    output.partials.sums += results * C::kHeadDim;
    output.partials.top_total += results;
    if (block.keys.first > block.keys.last) return write_nothing<C>(args, block, output);
  }

  const int begin = block.keys.first / kKeyTile * kKeyTile;
  const int num_tiles = (block.keys.last - begin) / kKeyTile + 1;
  const auto start = [&](int i) {
    if (i < num_tiles) {
      start_tile<kGlobal, C>(args, block, begin + i * kKeyTile, shared.tile(i));
    }
  };
  for (int i = 0; i < C::kStages - 1; ++i) {
    start(i);
    if (i == 0) start_queries<kGlobal, C>(args, block, shared.queries());
    commit_copies();
  }
  ValueSums<C> sums = {};
  for (int i = 0; i < num_tiles; ++i) {
    wait_copies<C::kStages - 2>();
    __syncthreads();  // the tile is there for all; all are done with the one before
    start(i + C::kStages - 1);
    commit_copies();
    compute_scores<kGlobal, C>(shared, shared.tile(i));
    __syncthreads();
    update_softmax<C>(shared, begin + i * kKeyTile, state);
    __syncthreads();
    add_values<C>(shared, shared.tile(i), sums);
  }
  write_results<C>(args, block, shared, state, output, sums);
}

template <bool kGlobal, int kQueries>
cudaError_t launch_pass(const AttentionArgs& args, const AttentionPass& pass, float* partials,
                        LaunchStream stream) {
  using C = Config<kGlobal, kQueries>;
  const Output output = {pass.num_splits > 1, split_partials(args, pass, partials)};
  const dim3 grid(static_cast<unsigned>(pass.num_splits),
                  static_cast<unsigned>(args.shape.num_kv_heads),
                  static_cast<unsigned>(pass.num_tiles));
  const cudaError_t error =
      launch_overlapping_kernel(attention_kernel<kGlobal, kQueries>, grid, C::kThreads,
                                C::kSharedBytes, stream, args, pass, output);
  if (error != cudaSuccess || pass.num_splits == 1) return error;
  return launch_merge_splits(args, pass, output.partials, stream);
}

template <bool kGlobal>
cudaError_t launch_kind(const AttentionArgs& args, const AttentionPass& pass, float* partials,
                        LaunchStream stream) {
  switch (pass.queries) {
    case 16:
      return launch_pass<kGlobal, 16>(args, pass, partials, stream);
    case 32:
      return launch_pass<kGlobal, 32>(args, pass, partials, stream);
    case 64:
      return launch_pass<kGlobal, 64>(args, pass, partials, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <bool kGlobal>
int shared_bytes(int queries) {
  return queries == 16   ? Config<kGlobal, 16>::kSharedBytes
         : queries == 32 ? Config<kGlobal, 32>::kSharedBytes
                         : Config<kGlobal, 64>::kSharedBytes;
}

}  // namespace

int attention_shared_bytes(bool is_global, int queries) {
  return is_global ? shared_bytes<true>(queries) : shared_bytes<false>(queries);
}

cudaError_t launch_attention(const AttentionArgs& args, const AttentionPlan& plan, float* partials,
                             LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  if (plan.is_generic) return launch_generic_attention(args, stream);
  for (int i = 0; i < plan.num_passes; ++i) {
    const AttentionPass& pass = plan.passes[i];
    const cudaError_t error = args.shape.is_global()
                                  ? launch_kind<true>(args, pass, partials, stream)
                                  : launch_kind<false>(args, pass, partials, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace beryl::kernels::cuda
