// Few rows: weights go straight from memory into the fragments of the tensor cores, 16 weight rows
// as operand a, 8 tokens as operand b. Which k goes where in a fragment does not matter as long as
// a and b agree, so lane t of a quad takes 8 consecutive numbers (16 bytes) of its rows and they
// serve two mma steps: numbers 0-3 the first, 4-7 the second.
//
// A block owns 16 weight rows (8 of gate and 8 of up with kGelu); its warps divide K and their sums
// are added in warp order, so a row's result does not depend on the other rows. Dense products
// bring their first weights to the second-level cache while the kernel before is still running.
#include "kernels/cuda/group_tile.cuh"
#include "kernels/cuda/matmul.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kTileCols = 16;
constexpr int kNumWarps = 8;
constexpr int kThreads = kNumWarps * kWarpSize;
constexpr int kStepDepth = 32;  // k of one step of a warp
constexpr int kSteps = 4;       // steps loaded at once: 4 KB of weights in flight a warp
constexpr int kChunk = kStepDepth * kSteps;

struct Columns {
  const bf16* first_half;   // weight row g
  const bf16* second_half;  // weight row g + 8
  bool has_first;
  bool has_second;
};

struct Tile {
  MatmulJob job;
  int tile;  // of 16 weight rows within the job
  GroupTile rows;
};

__device__ Columns lane_columns(const MatmulArgs& args, const Tile& tile) {
  const int g = lane_idx() / 4;
  const int64_t group = args.num_groups > 0 ? tile.rows.group : 0;
  const auto* weight = reinterpret_cast<const bf16*>(tile.job.weight) + group * args.weight_stride;
  const int64_t k = args.k;
  if (args.epilogue == Epilogue::kGelu) {
    const auto* up = reinterpret_cast<const bf16*>(tile.job.up) + group * args.weight_stride;
    const int64_t col = int64_t{tile.tile} * 8 + g;  // num_cols is a multiple of 8
    return {weight + col * k, up + col * k, true, true};
  }
  const int col = tile.tile * kTileCols + g;
  return {weight + int64_t{col} * k, weight + int64_t{col + 8} * k, col < tile.job.num_cols,
          col + 8 < tile.job.num_cols};
}

__device__ uint4 load_or_zero(const bf16* from, bool valid) {
  return valid ? load_streaming(from) : make_uint4(0, 0, 0, 0);
}

// What this lane will read first. Weights are written by no kernel of a step.
__device__ void prefetch_first(const Columns& columns, int k) {
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const int at = warp_idx() * kChunk + s * kStepDepth + (lane_idx() % 4) * 8;
    if (columns.has_first && at < k) prefetch(columns.first_half + at);
    if (columns.has_second && at < k) prefetch(columns.second_half + at);
  }
}

// sums += 16 weight rows times 8 * kTokenTiles tokens, over this warp's part of K.
template <int kTokenTiles>
__device__ void accumulate(const Columns& columns, const bf16* const (&x)[kTokenTiles], int k,
                           float (&sums)[kTokenTiles][4]) {
  const int quad = (lane_idx() % 4) * 8;
  for (int base = warp_idx() * kChunk; base < k; base += kNumWarps * kChunk) {
    uint4 first[kSteps];
    uint4 second[kSteps];
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int at = base + s * kStepDepth + quad;
      first[s] = load_or_zero(columns.first_half + at, columns.has_first && at < k);
      second[s] = load_or_zero(columns.second_half + at, columns.has_second && at < k);
    }
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const int at = base + s * kStepDepth + quad;
      const uint32_t a_low[4] = {first[s].x, second[s].x, first[s].y, second[s].y};
      const uint32_t a_high[4] = {first[s].z, second[s].z, first[s].w, second[s].w};
#pragma unroll
      for (int i = 0; i < kTokenTiles; ++i) {
        uint4 b = make_uint4(0, 0, 0, 0);
        if (x[i] != nullptr && at < k) b = *reinterpret_cast<const uint4*>(x[i] + at);
        mma_bf16(sums[i], a_low, b.x, b.y);
        mma_bf16(sums[i], a_high, b.z, b.w);
      }
    }
  }
}

__device__ void store(const MatmulArgs& args, const Tile& tile, int row, int r, float value) {
  const int64_t num_cols = tile.job.num_cols;
  const int col = tile.tile * kTileCols + r;
  if (col >= num_cols) return;
  if (args.epilogue == Epilogue::kStoreBf16) {
    static_cast<bf16*>(tile.job.out)[row * num_cols + col] = from_float<bf16>(value);
    return;
  }
  if (args.cap > 0) value = args.cap * tanhf(value / args.cap);
  if (args.row_scale != nullptr) value *= args.row_scale[row];
  static_cast<float*>(tile.job.out)[row * num_cols + col] = value;
}

// Adds the warps' sums in order and writes the results.
template <int kTokenTiles>
__device__ void finish(const MatmulArgs& args, const Tile& tile,
                       const float (&sums)[kTokenTiles][4]) {
  __shared__ float partial[kNumWarps][kTokenTiles * 8][kTileCols + 1];  // [warp][token][weight row]
  const int g = lane_idx() / 4;
  const int token = (lane_idx() % 4) * 2;
#pragma unroll
  for (int i = 0; i < kTokenTiles; ++i) {
    partial[warp_idx()][i * 8 + token][g] = sums[i][0];
    partial[warp_idx()][i * 8 + token + 1][g] = sums[i][1];
    partial[warp_idx()][i * 8 + token][g + 8] = sums[i][2];
    partial[warp_idx()][i * 8 + token + 1][g + 8] = sums[i][3];
  }
  __syncthreads();
  const auto total = [](int t, int r) {
    float sum = 0;
    for (int w = 0; w < kNumWarps; ++w) sum += partial[w][t][r];
    return sum;
  };
  const int num_rows = tile.rows.end - tile.rows.begin;
  const bool is_gelu = args.epilogue == Epilogue::kGelu;
  const int cols = is_gelu ? 8 : kTileCols;
  for (int i = static_cast<int>(threadIdx.x); i < num_rows * cols; i += kThreads) {
    const int t = i / cols;
    const int r = i % cols;
    const int row = tile.rows.begin + t;
    if (!is_gelu) {
      store(args, tile, row, r, total(t, r));
      continue;
    }
    const float value = gelu_tanh(total(t, r)) * total(t, r + 8);
    static_cast<bf16*>(tile.job.out)[int64_t{row} * tile.job.num_cols + tile.tile * 8 + r] =
        from_float<bf16>(value);
  }
}

__device__ int tiles_of(const MatmulArgs& args, const MatmulJob& job) {
  return args.epilogue == Epilogue::kGelu ? job.num_cols / 8
                                          : (job.num_cols + kTileCols - 1) / kTileCols;
}

template <int kTokenTiles>
__global__ void __launch_bounds__(kThreads) skinny_kernel(MatmulArgs args) {
  constexpr int kRows = kTokenTiles * 8;
  let_next_kernel_start();
  Tile tile;
  tile.tile = static_cast<int>(blockIdx.x);
  tile.job = args.jobs[0];
#pragma unroll
  for (int j = 1; j < kMaxMatmulJobs; ++j) {
    if (j >= args.num_jobs) break;
    const int before = tiles_of(args, tile.job);
    if (tile.tile < before) break;
    tile.tile -= before;
    tile.job = args.jobs[j];
  }
  // The experts that have rows are known only after the wait.
  if (args.num_groups == 0) prefetch_first(lane_columns(args, tile), args.k);
  wait_for_earlier_kernels();
  if (args.num_groups == 0) {
    const int begin = static_cast<int>(blockIdx.y) * kRows;
    tile.rows = {0, begin, min(begin + kRows, args.num_rows)};
  } else if (!find_group_tile(args.offsets, args.num_groups, kRows, {},
                              static_cast<int>(blockIdx.y), tile.rows)) {
    return;  // every warp finds the same
  }
  const bf16* x[kTokenTiles];
#pragma unroll
  for (int i = 0; i < kTokenTiles; ++i) {
    const int row = tile.rows.begin + i * 8 + lane_idx() / 4;
    x[i] = nullptr;
    if (row >= tile.rows.end) continue;
    const int64_t source = args.row_idx == nullptr ? row : args.row_idx[row];
    x[i] = reinterpret_cast<const bf16*>(args.x) + source * args.k;
  }
  float sums[kTokenTiles][4] = {};
  accumulate<kTokenTiles>(lane_columns(args, tile), x, args.k, sums);
  finish<kTokenTiles>(args, tile, sums);
}

int host_tiles(const MatmulArgs& args) {
  int tiles = 0;
  for (int j = 0; j < args.num_jobs; ++j) {
    const int cols = args.jobs[j].num_cols;
    tiles += args.epilogue == Epilogue::kGelu ? cols / 8 : (cols + kTileCols - 1) / kTileCols;
  }
  return tiles;
}

}  // namespace

cudaError_t launch_skinny(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream) {
  const dim3 grid(static_cast<unsigned>(host_tiles(args)),
                  static_cast<unsigned>(plan.num_row_tiles));
  switch (plan.tile_rows) {
    case 8:
      return launch_overlapping_kernel(skinny_kernel<1>, grid, kThreads, 0, stream, args);
    case 16:
      return launch_overlapping_kernel(skinny_kernel<2>, grid, kThreads, 0, stream, args);
    case 32:
      return launch_overlapping_kernel(skinny_kernel<4>, grid, kThreads, 0, stream, args);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace beryl::kernels::cuda
