// Attention within pictures with tensor cores, heads of 72 numbers. A block holds 128 queries of
// one head, 32 a warp, and walks over the keys of their picture in tiles of 64, the next of which
// is copied meanwhile. Queries, scores and sums stay in registers; only keys and values lie in
// shared memory, rows of 144 bytes side by side: eight rows of one 16-byte chunk fall into
// different banks without padding.
//
// 72 numbers are four and a half steps of 16: the second half of the fifth step is zeros that no
// memory holds.
#include <math_constants.h>

#include <cstring>

#include "kernels/check.h"
#include "kernels/cuda/patch_grid.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kHeadDim = kPatchTileHeadDim;
constexpr int kChunks = kHeadDim / 8;  // of 16 bytes
constexpr int kRowBytes = kHeadDim * 2;
constexpr int kKeys = 64;  // of a tile
constexpr int kNumWarps = 4;
constexpr int kThreads = kNumWarps * kWarpSize;
constexpr int kMmaRows = 16;
constexpr int kRowTiles = kPatchQueries / kNumWarps / kMmaRows;  // of a warp
constexpr int kKeyGroups = kKeys / 8;
constexpr int kSteps = (kHeadDim + 15) / 16;
constexpr int kTileBytes = kKeys * kRowBytes;
constexpr int kSharedBytes = 4 * kTileBytes;  // keys and values, two tiles of each
constexpr float kLog2E = 1.4426950408889634f;

static_assert(kHeadDim == 72 && kRowTiles == 2 && kKeyGroups % 4 == 0);
static_assert(2 * kKeys * kChunks % kThreads == 0);

struct Block {
  int num_keys;     // patches of the picture
  int first_query;  // of this warp, in the picture
  int pitch;        // numbers from one patch to the next; those of a picture fit 31 bits
  int64_t first;    // number of the head of the picture's first patch
};

using Queries = uint32_t[kRowTiles][kSteps][4];
using Scores = float[kRowTiles][kKeyGroups][4];
using Sums = float[kRowTiles][kChunks][4];

// Of the rows lane / 4 and lane / 4 + 8 of each row tile; `total` of this lane's keys alone.
struct Softmax {
  float top[kRowTiles][2];
  float total[kRowTiles][2];
};

__device__ void load_queries(const PatchAttentionArgs& args, const Block& block, Queries& queries) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = block.first_query + m * kMmaRows + lane_idx() / 4 + (i & 1) * 8;
      const uint16_t* from = args.q + block.first + query * block.pitch;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int chunk = step * 2 + (i >> 1);
        queries[m][step][i] = 0;
        if (chunk < kChunks && query < block.num_keys) {
          queries[m][step][i] =
              *reinterpret_cast<const uint32_t*>(from + chunk * 8 + lane_idx() % 4 * 2);
        }
      }
    }
  }
}

// Starts copying keys and values [first_key, first_key + 64); those beyond the picture become
// zeros, so that nothing of a neighbour comes in.
__device__ void start_tile(const PatchAttentionArgs& args, const Block& block, int first_key,
                           uint32_t tile) {
#pragma unroll 1  // more addresses at a time would not fit into registers
  for (int i = 0; i < 2 * kKeys * kChunks / kThreads; ++i) {
    const int at = static_cast<int>(threadIdx.x) + i * kThreads;
    const bool is_value = at >= kKeys * kChunks;
    const int chunk = is_value ? at - kKeys * kChunks : at;
    const int key = first_key + chunk / kChunks;
    const bool valid = key < block.num_keys;
    const uint16_t* from = is_value ? args.v : args.k;
    if (valid) from += block.first + key * block.pitch + chunk % kChunks * 8;
    copy_async(tile + static_cast<uint32_t>(at * 16), from, valid);
  }
}

__device__ void compute_scores(const Queries& queries, uint32_t keys, Scores& scores) {
  const int lane = lane_idx();
#pragma unroll
  for (int t = 0; t < kKeyGroups; ++t) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[m][t][i] = 0;
    }
#pragma unroll
    for (int step = 0; step + 1 < kSteps; step += 2) {
      uint32_t b[4];
      load_matrices(b, keys + static_cast<uint32_t>((t * 8 + (lane & 7)) * kRowBytes +
                                                    (step * 2 + (lane >> 3)) * 16));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma_bf16(scores[m][t], queries[m][step], b[0], b[1]);
        mma_bf16(scores[m][t], queries[m][step + 1], b[2], b[3]);
      }
    }
  }
  // The last eight numbers, of 32 keys in one load.
#pragma unroll
  for (int t = 0; t < kKeyGroups; t += 4) {
    uint32_t b[4];
    load_matrices(b, keys + static_cast<uint32_t>((t * 8 + lane) * kRowBytes + (kChunks - 1) * 16));
#pragma unroll
    for (int j = 0; j < 4; ++j) {
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma_bf16(scores[m][t + j], queries[m][kSteps - 1], b[j], 0u);
      }
    }
  }
}

// Keys of the tile from `count` on are not of this picture.
__device__ void mask_scores(int count, Scores& scores) {
#pragma unroll
  for (int t = 0; t < kKeyGroups; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (t * 8 + lane_idx() % 4 * 2 + (i & 1) < count) continue;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) scores[m][t][i] = -CUDART_INF_F;
    }
  }
}

// Scores become weights; what was summed before is scaled to the new maximum.
__device__ void update_softmax(Scores& scores, Softmax& state, Sums& sums) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = state.top[m][half];
#pragma unroll
      for (int t = 0; t < kKeyGroups; ++t) {
        top = fmaxf(top, fmaxf(scores[m][t][half * 2], scores[m][t][half * 2 + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, 2));
      const float base = top * kLog2E;  // finite: every tile has a key of the picture
      const float factor = exp2_fast(state.top[m][half] * kLog2E - base);
      float sum = 0;
#pragma unroll
      for (int t = 0; t < kKeyGroups; ++t) {
#pragma unroll
        for (int i = half * 2; i < half * 2 + 2; ++i) {
          scores[m][t][i] = exp2_fast(scores[m][t][i] * kLog2E - base);
          sum += scores[m][t][i];
        }
      }
      state.total[m][half] = state.total[m][half] * factor + sum;
      state.top[m][half] = top;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        sums[m][c][half * 2] *= factor;
        sums[m][c][half * 2 + 1] *= factor;
      }
    }
  }
}

__device__ uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

// sums += weights * values. What the lanes hold of the weights is what they need of them as the
// first operand.
__device__ void add_values(const Scores& weights, uint32_t values, Sums& sums) {
  const int lane = lane_idx();
#pragma unroll
  for (int pair = 0; pair < kKeys / 32; ++pair) {
    uint32_t a[2][kRowTiles][4];
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const int t = (pair * 2 + step) * 2;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        a[step][m][0] = pack(weights[m][t][0], weights[m][t][1]);
        a[step][m][1] = pack(weights[m][t][2], weights[m][t][3]);
        a[step][m][2] = pack(weights[m][t + 1][0], weights[m][t + 1][1]);
        a[step][m][3] = pack(weights[m][t + 1][2], weights[m][t + 1][3]);
      }
#pragma unroll
      for (int c = 0; c + 1 < kChunks; c += 2) {
        uint32_t b[4];
        load_matrices_transposed(b,
                                 values + static_cast<uint32_t>((t * 8 + (lane & 15)) * kRowBytes +
                                                                (c + (lane >> 4)) * 16));
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          mma_bf16(sums[m][c], a[step][m], b[0], b[1]);
          mma_bf16(sums[m][c + 1], a[step][m], b[2], b[3]);
        }
      }
    }
    // The last eight numbers, of 32 keys in one load.
    uint32_t b[4];
    load_matrices_transposed(
        b, values + static_cast<uint32_t>((pair * 32 + lane) * kRowBytes + (kChunks - 1) * 16));
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      mma_bf16(sums[m][kChunks - 1], a[0][m], b[0], b[1]);
      mma_bf16(sums[m][kChunks - 1], a[1][m], b[2], b[3]);
    }
  }
}

__device__ void write_results(const PatchAttentionArgs& args, const Block& block,
                              const Softmax& state, const Sums& sums) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = state.total[m][half];
      total += __shfl_xor_sync(kAllLanes, total, 1);
      total += __shfl_xor_sync(kAllLanes, total, 2);
      const float factor = 1.0f / total;
      const int query = block.first_query + m * kMmaRows + lane_idx() / 4 + half * 8;
      if (query >= block.num_keys) continue;
      uint16_t* to = args.out + block.first + query * block.pitch + lane_idx() % 4 * 2;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        *reinterpret_cast<uint32_t*>(to + c * 8) =
            pack(sums[m][c][half * 2] * factor, sums[m][c][half * 2 + 1] * factor);
      }
    }
  }
}

// Grid (tiles of queries, heads).
__global__ void __launch_bounds__(kThreads, 2)
    tile_patch_attention_kernel(PatchAttentionArgs args) {
  BERYL_DYNAMIC_SHARED(unsigned char, memory);
  const auto query_tile = static_cast<int>(blockIdx.x);
  const DeviceGrid grid = grid_of_tile(args.grids, query_tile);
  Block block;
  block.num_keys = grid.height * grid.width;
  block.first_query =
      (query_tile - grid.first_tile) * kPatchQueries + warp_idx() * kRowTiles * kMmaRows;
  block.pitch = args.num_heads * kHeadDim;
  block.first = int64_t{grid.first_patch} * block.pitch + int64_t{blockIdx.y} * kHeadDim;
  const bool has_queries = block.first_query < block.num_keys;

  const uint32_t tiles = shared_address(memory);
  start_tile(args, block, 0, tiles);
  commit_copies();
  Queries queries;
  load_queries(args, block, queries);
  Sums sums = {};
  Softmax state;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      state.top[m][half] = -CUDART_INF_F;
      state.total[m][half] = 0;
    }
  }
  const int num_tiles = (block.num_keys + kKeys - 1) / kKeys;
  for (int i = 0; i < num_tiles; ++i) {
    const uint32_t tile = tiles + static_cast<uint32_t>((i & 1) * 2 * kTileBytes);
    wait_copies<0>();
    __syncthreads();  // the tile is there for all; all are done with the one before
    if (i + 1 < num_tiles) {
      start_tile(args, block, (i + 1) * kKeys,
                 tiles + static_cast<uint32_t>(((i + 1) & 1) * 2 * kTileBytes));
    }
    commit_copies();
    if (!has_queries) continue;  // the whole warp
    Scores scores;
    compute_scores(queries, tile, scores);
    const int count = block.num_keys - i * kKeys;
    if (count < kKeys) mask_scores(count, scores);
    update_softmax(scores, state, sums);
    add_values(scores, tile + kTileBytes, sums);
  }
  if (has_queries) write_results(args, block, state, sums);
}

}  // namespace

cudaError_t launch_tile_patch_attention(const PatchAttentionArgs& args, cudaStream_t stream) {
  if (args.grids.num_patches == 0) return cudaSuccess;
  BERYL_CHECK(args.head_dim == kHeadDim);
  const dim3 grid(static_cast<unsigned>(args.grids.num_tiles),
                  static_cast<unsigned>(args.num_heads));
  return launch_kernel(tile_patch_attention_kernel, grid, kThreads, kSharedBytes, stream, args);
}

}  // namespace beryl::kernels::cuda
