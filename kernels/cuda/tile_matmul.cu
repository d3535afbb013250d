// Many rows: kTileRows x 128 tiles of the result, operands through shared memory in a ring of
// stages filled by asynchronous copies. With kGelu the 128 weight rows of a tile are 64 of gate and
// 64 of up, interleaved in eights, so that both halves of a pair meet in one thread's registers.
#include "kernels/cuda/group_tile.cuh"
#include "kernels/cuda/matmul.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kTileCols = 128;
constexpr int kDepth = 32;  // k of a stage: rows of 64 bytes, four chunks of 16
constexpr int kChunks = kDepth / 8;
constexpr int kStages = 4;
constexpr int kThreads = 256;  // 2 x 4 warps
constexpr int kWarpCols = 32;

// Byte offset of chunk `chunk` of row `row`. Eight rows of one chunk (what ldmatrix reads at once)
// fall into different banks: two rows fill 128 bytes, and the chunk moves with the pair of rows.
__device__ uint32_t tile_offset(int row, int chunk) {
  return static_cast<uint32_t>(row * kDepth * 2 + ((chunk ^ ((row >> 1) & 3)) * 16));
}

template <int kTileRows>
struct Shape {
  static constexpr int kRowTiles = kTileRows / 2 / 16;  // m16 tiles of a warp
  static constexpr int kStageBytes = (kTileRows + kTileCols) * kDepth * 2;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static constexpr int kRowCopies = kTileRows * kChunks / kThreads;
  static constexpr int kColCopies = kTileCols * kChunks / kThreads;
};

// What one thread copies in each stage; only k advances.
template <int kTileRows>
struct Copies {
  const bf16* rows[Shape<kTileRows>::kRowCopies];
  const bf16* cols[Shape<kTileRows>::kColCopies];
  bool has_row[Shape<kTileRows>::kRowCopies];
  bool has_col[Shape<kTileRows>::kColCopies];
};

// Weight row behind row r of the tile, or null.
__device__ const bf16* weight_row(const MatmulArgs& args, int tile, int64_t group, int r) {
  const MatmulJob& job = args.jobs[0];
  const bool is_gelu = args.epilogue == Epilogue::kGelu;
  const bool is_up = is_gelu && (r & 8) != 0;
  const int col = is_gelu ? tile * 64 + (r >> 4) * 8 + (r & 7) : tile * kTileCols + r;
  if (col >= job.num_cols) return nullptr;
  const auto* base = reinterpret_cast<const bf16*>(is_up ? job.up : job.weight);
  return base + group * args.weight_stride + int64_t{col} * args.k;
}

template <int kTileRows>
__device__ Copies<kTileRows> plan_copies(const MatmulArgs& args, const GroupTile& rows) {
  Copies<kTileRows> copies;
  const auto* x = reinterpret_cast<const bf16*>(args.x);
#pragma unroll
  for (int i = 0; i < Shape<kTileRows>::kRowCopies; ++i) {
    const int row = rows.begin + (static_cast<int>(threadIdx.x) + i * kThreads) / kChunks;
    copies.has_row[i] = row < rows.end;
    const int64_t source = !copies.has_row[i]        ? 0
                           : args.row_idx == nullptr ? row
                                                     : args.row_idx[row];
    copies.rows[i] = x + source * args.k;
  }
  const int64_t group = args.num_groups > 0 ? rows.group : 0;
#pragma unroll
  for (int i = 0; i < Shape<kTileRows>::kColCopies; ++i) {
    const int r = (static_cast<int>(threadIdx.x) + i * kThreads) / kChunks;
    const bf16* from = weight_row(args, static_cast<int>(blockIdx.x), group, r);
    copies.has_col[i] = from != nullptr;
    copies.cols[i] = from != nullptr ? from : x;
  }
  return copies;
}

template <int kTileRows>
__device__ void start_stage(const Copies<kTileRows>& copies, uint32_t stage, int k0, int k) {
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;  // kThreads is a multiple of kChunks
  const int at = k0 + chunk * 8;
  const bool in_range = at < k;
#pragma unroll
  for (int i = 0; i < Shape<kTileRows>::kRowCopies; ++i) {
    const int row = (static_cast<int>(threadIdx.x) + i * kThreads) / kChunks;
    const bool valid = in_range && copies.has_row[i];
    copy_async(stage + tile_offset(row, chunk), copies.rows[i] + (valid ? at : 0), valid);
  }
  const uint32_t cols = stage + kTileRows * kDepth * 2;
#pragma unroll
  for (int i = 0; i < Shape<kTileRows>::kColCopies; ++i) {
    const int row = (static_cast<int>(threadIdx.x) + i * kThreads) / kChunks;
    const bool valid = in_range && copies.has_col[i];
    copy_async(cols + tile_offset(row, chunk), copies.cols[i] + (valid ? at : 0), valid);
  }
}

template <int kTileRows>
__device__ void multiply_stage(uint32_t stage,
                               float (&sums)[Shape<kTileRows>::kRowTiles][kWarpCols / 8][4]) {
  constexpr int kRowTiles = Shape<kTileRows>::kRowTiles;
  const int lane = lane_idx();
  const int first_row = (warp_idx() / 4) * (kTileRows / 2);
  const int first_col = (warp_idx() % 4) * kWarpCols;
  const uint32_t cols = stage + kTileRows * kDepth * 2;
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      const int row = first_row + m * 16 + (lane & 15);
      load_matrices(a[m], stage + tile_offset(row, step * 2 + (lane >> 4)));
    }
#pragma unroll
    for (int pair = 0; pair < kWarpCols / 16; ++pair) {
      // b0 and b1 of two tiles of 8 columns.
      uint32_t b[4];
      const int row = first_col + pair * 16 + (lane & 7) + ((lane >> 4) << 3);
      load_matrices(b, cols + tile_offset(row, step * 2 + ((lane >> 3) & 1)));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma_bf16(sums[m][pair * 2], a[m], b[0], b[1]);
        mma_bf16(sums[m][pair * 2 + 1], a[m], b[2], b[3]);
      }
    }
  }
}

__device__ void store_one(const MatmulArgs& args, int row, int col, float value) {
  const MatmulJob& job = args.jobs[0];
  if (col >= job.num_cols) return;
  const int64_t at = int64_t{row} * job.num_cols + col;
  if (args.epilogue != Epilogue::kStore) {
    static_cast<bf16*>(job.out)[at] = from_float<bf16>(value);
    return;
  }
  if (args.cap > 0) value = args.cap * tanhf(value / args.cap);
  if (args.row_scale != nullptr) value *= args.row_scale[row];
  static_cast<float*>(job.out)[at] = value;
}

template <int kTileRows>
__device__ void store_tile(const MatmulArgs& args, const GroupTile& rows,
                           const float (&sums)[Shape<kTileRows>::kRowTiles][kWarpCols / 8][4]) {
  const int g = lane_idx() / 4;
  const int pair = (lane_idx() % 4) * 2;
  const int warp_row = rows.begin + (warp_idx() / 4) * (kTileRows / 2);
  const int warp_col = (warp_idx() % 4) * kWarpCols;
  const int tile = static_cast<int>(blockIdx.x);
#pragma unroll
  for (int m = 0; m < Shape<kTileRows>::kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = warp_row + m * 16 + g + half * 8;
      if (row >= rows.end) continue;
#pragma unroll
      for (int n = 0; n < kWarpCols / 8; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float value = sums[m][n][half * 2 + j];
          if (args.epilogue != Epilogue::kGelu) {
            store_one(args, row, tile * kTileCols + warp_col + n * 8 + pair + j, value);
          } else if (n % 2 == 0) {
            const float up = sums[m][n + 1][half * 2 + j];
            const int col = tile * 64 + (warp_col / 16 + n / 2) * 8 + pair + j;
            store_one(args, row, col, gelu_tanh(value) * up);
          }
        }
      }
    }
  }
}

template <int kTileRows>
__global__ void __launch_bounds__(kThreads) tile_kernel(MatmulArgs args) {
  begin_overlapping_kernel();
  BERYL_DYNAMIC_SHARED(unsigned char, shared);
  GroupTile rows;
  if (args.num_groups == 0) {
    const int begin = static_cast<int>(blockIdx.y) * kTileRows;
    rows = {0, begin, min(begin + kTileRows, args.num_rows)};
  } else if (!find_group_tile(args.offsets, args.num_groups, kTileRows, {},
                              static_cast<int>(blockIdx.y), rows)) {
    return;  // every warp finds the same
  }
  const Copies<kTileRows> copies = plan_copies<kTileRows>(args, rows);
  const uint32_t base = shared_address(shared);
  const int num_steps = (args.k + kDepth - 1) / kDepth;
  const auto stage_address = [base](int step) {
    return base + static_cast<uint32_t>(step % kStages * Shape<kTileRows>::kStageBytes);
  };
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < num_steps) start_stage(copies, stage_address(s), s * kDepth, args.k);
    commit_copies();
  }
  float sums[Shape<kTileRows>::kRowTiles][kWarpCols / 8][4] = {};
  for (int step = 0; step < num_steps; ++step) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the stage has arrived for all, and all are done with the one before
    const int next = step + kStages - 1;
    if (next < num_steps) start_stage(copies, stage_address(next), next * kDepth, args.k);
    commit_copies();
    multiply_stage<kTileRows>(stage_address(step), sums);
  }
  store_tile<kTileRows>(args, rows, sums);
}

template <int kTileRows>
cudaError_t launch(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream) {
  constexpr int kSharedBytes = Shape<kTileRows>::kSharedBytes;
  const int cols = args.epilogue == Epilogue::kGelu ? 64 : kTileCols;
  MatmulArgs one = args;
  one.num_jobs = 1;
  for (int j = 0; j < args.num_jobs; ++j) {
    one.jobs[0] = args.jobs[j];
    const dim3 grid(static_cast<unsigned>((one.jobs[0].num_cols + cols - 1) / cols),
                    static_cast<unsigned>(plan.num_row_tiles));
    const cudaError_t error = launch_overlapping_kernel(tile_kernel<kTileRows>, grid, kThreads,
                                                        kSharedBytes, stream, one);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace

cudaError_t launch_tile(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream) {
  if (plan.tile_rows == 64) return launch<64>(args, plan, stream);
  if (plan.tile_rows == 128) return launch<128>(args, plan, stream);
  return cudaErrorInvalidValue;
}

}  // namespace beryl::kernels::cuda
