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

#include "kernels/cuda/attention_block.cuh"

namespace beryl::kernels::cuda {
namespace {

template <bool kGlobal, int kQueriesOfBlock, bool kDeep>
struct Config {
  static constexpr int kQueries = kQueriesOfBlock;
  static constexpr int kHeadDim = kGlobal ? kHeadDimGlobal : kHeadDimSliding;
  static constexpr int kKeyColumns = kHeadDim / kColumnNumbers;  // that scores are made of
  static constexpr int kTileDim = kHeadDim + (kGlobal ? 2 * kPairs : kHeadDim);  // of a tile's row
  static constexpr int kValueBegin = kGlobal ? 0 : kHeadDim;  // of V in a tile's row
  static constexpr int kNumWarps = 8;
  static constexpr int kThreads = kNumWarps * kWarpSize;
  static constexpr int kQueryTiles = kQueries / 16;
  static constexpr int kParts = kNumWarps / kQueryTiles;  // warps that share 16 queries
  // For scores those divide the keys, and what is left of them the columns.
  static constexpr int kKeyParts = kParts < kKeyTile / 8 ? kParts : kKeyTile / 8;
  static constexpr int kColumnParts = kParts / kKeyParts;
  static constexpr int kKeysOfWarp = kKeyTile / kKeyParts;
  static constexpr int kColumnsOfWarp = kKeyColumns / kColumnParts;
  static constexpr int kDimsOfWarp = kHeadDim / kParts;
  static constexpr int kScoreStride = kKeyTile + 4;  // floats
  static constexpr int kProbStride = kKeyTile + 8;   // bf16: rows 80 bytes apart, free of conflicts
  static constexpr int kLanesOfQuery = kThreads / kQueries;

  // Tiles in shared memory. Deep: as many as an SM of sm_90 holds; otherwise a second block of few
  // queries fits.
  static constexpr int kStages = kDeep ? (kGlobal ? 5 : 6) : !kGlobal && kQueries == 16 ? 3 : 2;

  static constexpr int kQueryBytes = kQueries * kHeadDim * 2;
  static constexpr int kTileBytes = kKeyTile * kTileDim * 2;
  static constexpr int kScoreBytes = kColumnParts * kQueries * kScoreStride * 4;
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

// Starts copying the queries side by side, columns in the order of key_column().
template <bool kGlobal, typename C>
__device__ void start_queries(const AttentionArgs& args, const Block& block, uint32_t to) {
  constexpr int kChunks = C::kHeadDim / 8;
  for (int i = static_cast<int>(threadIdx.x); i < C::kQueries * kChunks; i += C::kThreads) {
    const int query = i / kChunks;
    const int chunk = i % kChunks;
    const bool is_valid = query < block.num_queries;
    const uint16_t* from = args.q;
    if (is_valid) {
      from +=
          block.result(args, query) * C::kHeadDim + query_dim<kGlobal>(chunk / 8) + chunk % 8 * 8;
    }
    copy_async(to + row_offset(query, chunk, C::kHeadDim), from, is_valid);
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

// S of this warp's 16 queries, its part of the keys and its part of the columns.
template <bool kGlobal, typename C>
__device__ void compute_scores(const Shared<C>& shared, uint32_t tile) {
  constexpr int kTiles = C::kKeysOfWarp / 8;
  const int lane = lane_idx();
  const int first_query = warp_idx() % C::kQueryTiles * 16;
  const int part = warp_idx() / C::kQueryTiles;
  const int first_key = part % C::kKeyParts * C::kKeysOfWarp;
  const int first_column = part / C::kKeyParts * C::kColumnsOfWarp;
  float sums[2][kTiles][4] = {};  // of the even and the odd steps: two chains of dependent products
#pragma unroll
  for (int i = 0; i < C::kColumnsOfWarp; ++i) {
    const int from_chunk = (first_column + i) * 8;
    const int tile_chunk = key_column<kGlobal>(first_column + i) * 8;
#pragma unroll
    for (int chunk = 0; chunk < 8; chunk += 4) {  // 32 numbers: two mma steps
      uint32_t a[2][4];
#pragma unroll
      for (int step = 0; step < 2; ++step) {
        load_matrices(a[step],
                      shared.queries() + row_offset(first_query + (lane & 15),
                                                    from_chunk + chunk + step * 2 + (lane >> 4),
                                                    C::kHeadDim));
      }
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        uint32_t b[4];
        load_matrices(b, tile + row_offset(first_key + t * 8 + (lane & 7),
                                           tile_chunk + chunk + (lane >> 3), C::kTileDim));
        mma_bf16(sums[0][t], a[0], b[0], b[1]);
        mma_bf16(sums[1][t], a[1], b[2], b[3]);
      }
    }
  }
  float* scores = shared.scores() +
                  (part / C::kKeyParts * C::kQueries + first_query + lane / 4) * C::kScoreStride +
                  first_key + (lane % 4) * 2;
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
    float score = scores[sub + i * kLanes];
#pragma unroll
    for (int part = 1; part < C::kColumnParts; ++part) {
      score += scores[part * C::kQueries * C::kScoreStride + sub + i * kLanes];
    }
    value[i] = visible ? score : -CUDART_INF_F;
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

// All threads of a query know its softmax; those that hold its sums need the total.
template <typename C>
__device__ void write_results(const AttentionArgs& args, const Block& block,
                              const Shared<C>& shared, const Softmax& state, const Output& output,
                              const ValueSums<C>& sums) {
  const int my_query = static_cast<int>(threadIdx.x) / C::kLanesOfQuery;
  const bool is_first = static_cast<int>(threadIdx.x) % C::kLanesOfQuery == 0;
  __syncthreads();  // factors have been read
  if (is_first) {
    shared.factors()[my_query] = output.is_partial ? 1.0f : 1.0f / state.total;
    if (output.is_partial && my_query < block.num_queries) {
      output.partials.top_total[block.result(args, my_query)] = make_float2(state.top, state.total);
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
    const int64_t at = block.result(args, query) * C::kHeadDim + first_dim;
#pragma unroll
    for (int t = 0; t < C::kDimsOfWarp / 8; ++t) {
      const float x = sums[t][half * 2] * factor;
      const float y = sums[t][half * 2 + 1] * factor;
      output.write(args, at + t * 8, x, y);
    }
  }
}

// Grid (splits, KV heads, tiles).
template <bool kGlobal, int kQueries, bool kDeep>
__global__ void __launch_bounds__(Config<kGlobal, kQueries, kDeep>::kThreads)
    attention_kernel(AttentionArgs args, AttentionPass pass, Output output) {
  using C = Config<kGlobal, kQueries, kDeep>;
  BERYL_DYNAMIC_SHARED(unsigned char, memory);
  const Shared<C> shared = {memory};
  let_next_kernel_start();
  Block block;
  const bool has_work =
      find_work(args, pass, {C::kQueries, kKeyTile}, static_cast<int>(blockIdx.z), block);
  Softmax state;
  const int my_query = static_cast<int>(threadIdx.x) / C::kLanesOfQuery;
  state.keys = {1, 0};
  state.top = -CUDART_INF_F;
  state.total = 0;
  if (has_work) state.keys = block.keys_of(args, my_query);
  wait_for_earlier_kernels();
  if (!has_work) return;
  output = output.of_split(args);
  if (block.keys.first > block.keys.last) return write_nothing(args, block, output);

  const int begin = block.keys.first;
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

template <bool kGlobal, int kQueries, bool kDeep>
cudaError_t launch_tile(const AttentionArgs& args, const AttentionPass& pass,
                        const AttentionPartials& partials, LaunchStream stream) {
  using C = Config<kGlobal, kQueries, kDeep>;
  const dim3 grid(static_cast<unsigned>(pass.num_splits),
                  static_cast<unsigned>(args.shape.num_kv_heads),
                  static_cast<unsigned>(pass.num_tiles));
  return launch_overlapping_kernel(attention_kernel<kGlobal, kQueries, kDeep>, grid, C::kThreads,
                                   C::kSharedBytes, stream, args, pass,
                                   Output{pass.num_splits > 1, partials});
}

template <bool kGlobal>
cudaError_t launch_kind(const AttentionArgs& args, const AttentionPass& pass,
                        const AttentionPartials& partials, LaunchStream stream) {
  switch (pass.queries) {
    case 16:
      return pass.is_deep ? launch_tile<kGlobal, 16, true>(args, pass, partials, stream)
                          : launch_tile<kGlobal, 16, false>(args, pass, partials, stream);
    case 32:
      return launch_tile<kGlobal, 32, false>(args, pass, partials, stream);
    case 64:
      return launch_tile<kGlobal, 64, false>(args, pass, partials, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <bool kGlobal>
int shared_bytes(const AttentionPass& pass) {
  if (pass.queries == 16) {
    return pass.is_deep ? Config<kGlobal, 16, true>::kSharedBytes
                        : Config<kGlobal, 16, false>::kSharedBytes;
  }
  return pass.queries == 32 ? Config<kGlobal, 32, false>::kSharedBytes
                            : Config<kGlobal, 64, false>::kSharedBytes;
}

}  // namespace

int tile_attention_shared_bytes(bool is_global, const AttentionPass& pass) {
  return is_global ? shared_bytes<true>(pass) : shared_bytes<false>(pass);
}

cudaError_t launch_tile_attention(const AttentionArgs& args, const AttentionPass& pass,
                                  const AttentionPartials& partials, LaunchStream stream) {
  return args.shape.is_global() ? launch_kind<true>(args, pass, partials, stream)
                                : launch_kind<false>(args, pass, partials, stream);
}

}  // namespace beryl::kernels::cuda
