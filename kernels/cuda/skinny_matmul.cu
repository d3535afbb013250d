// Few rows: bound by the bytes of the weights. The columns of all products (of each tile of rows of
// each expert, when grouped) form one list that is divided evenly over the blocks, to one column;
// one or two blocks an SM. A block streams its weight rows through a ring of stages in shared
// memory, without a break between one run of columns and the next, so that tens of KB are under way
// all the time.
//
// A stage is kWeightRows weight rows (kGelu: half of them gate, half up) and a tile of rows of x,
// kDepth numbers of k each. Eight warps: kRowGroups along the weight rows, the others along k; the
// latter's sums are added in order at the end of a run. Weight rows are operand a of the tensor
// cores (16 rows), rows of x operand b (8).
//
// Rows of a stage beyond the run or the tile hold anything: they meet no number that is stored.
#include "kernels/check.h"
#include "kernels/cuda/group_tile.cuh"
#include "kernels/cuda/matmul.h"

namespace beryl::kernels::cuda {
namespace {

constexpr int kNumWarps = 8;
constexpr int kThreads = kNumWarps * kWarpSize;
constexpr int kWarpDepth = 64;  // k of a warp in one stage: four steps of the tensor cores
constexpr int kWarpRows = 16;   // weight rows of a warp: operand a

template <int kRowGroups_, int kTokenTiles_>
struct Shape {
  static constexpr int kRowGroups = kRowGroups_;
  static constexpr int kTokenTiles = kTokenTiles_;
  static constexpr int kWeightRows = kRowGroups * kWarpRows;
  static constexpr int kTokens = kTokenTiles * 8;
  static constexpr int kDepthGroups = kNumWarps / kRowGroups;
  static constexpr int kDepth = kDepthGroups * kWarpDepth;
  static constexpr int kPitch = kDepth * 2;              // bytes of a row
  static constexpr int kChunks = kDepth / 8;             // of 16 bytes, of a row
  static constexpr int kRowStride = kThreads / kChunks;  // rows between two copies of a thread
  static constexpr int kWeightCopies = kWeightRows / kRowStride;
  static constexpr int kTokenCopies = (kTokens + kRowStride - 1) / kRowStride;
  static constexpr int kWeightBytes = kWeightRows * kPitch;
  static constexpr int kStageBytes = kWeightBytes + kTokens * kPitch;
  // Sums on their way to one another: [depth group][token][weight row], and one float to spread
  // tokens over banks.
  static constexpr int kPartialPitch = kWeightRows + 1;
  static constexpr int kPartialBytes =
      kDepthGroups == 1 ? 0 : kDepthGroups * kTokens * kPartialPitch * 4;
  static constexpr int kStages = skinny_stages(kWeightRows, kTokens);
  static_assert(kStages >= 3);

  // Of a stage, in bytes. The chunk moves with the row, so that eight rows of one chunk (what
  // load_matrices reads at once) fall into different banks.
  static __device__ uint32_t offset(int row, int chunk) {
    return static_cast<uint32_t>(row * kPitch + (chunk ^ (row & 7)) * 16);
  }
};

// What a block works on between two stores: columns of one product, with one tile of rows.
struct Run {
  int tile = -1;
  GroupTile rows = {};
  MatmulJob job;
  int first_col = 0;
  int num_cols = 0;
};

// The columns of a block, in the list of all.
struct Share {
  int begin;
  int end;
};

template <typename S>
struct Work {
  const MatmulArgs& args;
  const int32_t* offsets;  // shared memory
  int num_cols;            // of all jobs
  Share share;

  __device__ bool is_gelu() const { return args.epilogue == Epilogue::kGelu; }
  __device__ int64_t group_of(const Run& run) const {
    return args.num_groups > 0 ? run.rows.group : 0;
  }

  // The run at `at`. Called by whole warps.
  __device__ void find(int at, Run& run) const {
    const int tile = at / num_cols;
    int col = at - tile * num_cols;
    if (tile != run.tile) {
      run.tile = tile;
      if (args.num_groups == 0) {
        const int begin = tile * S::kTokens;
        run.rows = {0, begin, min(begin + S::kTokens, args.num_rows)};
      } else {
        find_group_tile(offsets, args.num_groups, S::kTokens, {}, tile, run.rows);
      }
    }
    run.job = args.jobs[0];
#pragma unroll
    for (int j = 1; j < kMaxMatmulJobs; ++j) {
      if (j >= args.num_jobs || col < run.job.num_cols) break;
      col -= run.job.num_cols;
      run.job = args.jobs[j];
    }
    run.first_col = col;
    // Of equal lengths, so that no stage is nearly empty.
    const int most = is_gelu() ? S::kWeightRows / 2 : S::kWeightRows;
    const int left = min(share.end - at, run.job.num_cols - col);
    const int num_runs = (left + most - 1) / most;
    run.num_cols = (left + num_runs - 1) / num_runs;
  }
};

// A place in the list of runs of a block.
template <typename S>
struct Cursor {
  const Work<S>& work;
  int at;
  Run run;

  __device__ explicit Cursor(const Work<S>& work_in) : work(work_in), at(work_in.share.begin) {
    if (!is_done()) work.find(at, run);
  }
  __device__ bool is_done() const { return at >= work.share.end; }
  __device__ void next() {
    at += run.num_cols;
    if (!is_done()) work.find(at, run);
  }
};

// Brings stages one after the other: this thread's part of them, one chunk of some rows. Chunks
// beyond k become zeros.
template <typename S>
class Loads {
 public:
  __device__ explicit Loads(const Work<S>& work) : cursor_(work) { aim_weights(); }

  __device__ int depth() const { return depth_; }

  __device__ void start_weights(uint32_t stage, int depth) const {
    const bool valid = depth + chunk() * 8 < cursor_.work.args.k;
    const uint32_t to = stage + S::offset(first_row(), chunk());
#pragma unroll
    for (int i = 0; i < S::kWeightCopies; ++i) {
      if ((has_weight_ >> i & 1) == 0) continue;
      copy_async(place(to, i), weight_[i] + depth, valid, policy_);
    }
  }
  __device__ void start_tokens(uint32_t stage) const {
    const bool valid = depth_ + chunk() * 8 < cursor_.work.args.k;
    const uint32_t to = stage + S::kWeightBytes + S::offset(first_row(), chunk());
#pragma unroll
    for (int i = 0; i < S::kTokenCopies; ++i) {
      if ((has_token_ >> i & 1) == 0) continue;
      copy_async(place(to, i), token_[i] + depth_, valid);
    }
  }
  __device__ void advance() {
    if (cursor_.is_done()) return;
    depth_ += S::kDepth;
    if (depth_ < cursor_.work.args.k) return;
    depth_ = 0;
    const int tile = cursor_.run.tile;
    cursor_.next();
    aim_weights();
    if (cursor_.run.tile != tile || cursor_.is_done()) aim_tokens();
  }
  __device__ void aim_tokens() {
    has_token_ = 0;
    if (cursor_.is_done()) return;
    const MatmulArgs& args = cursor_.work.args;
    const GroupTile& rows = cursor_.run.rows;
#pragma unroll
    for (int i = 0; i < S::kTokenCopies; ++i) {
      const int token = first_row() + i * S::kRowStride;
      const int row = rows.begin + token;
      if (token >= S::kTokens || row >= rows.end) continue;
      const int64_t source = args.row_idx == nullptr ? row : args.row_idx[row];
      token_[i] = reinterpret_cast<const bf16*>(args.x) + source * args.k + chunk() * 8;
      has_token_ |= 1u << i;
    }
  }

 private:
  static __device__ int chunk() {
    return static_cast<int>(threadIdx.x) % S::kChunks;
  }
  static __device__ int first_row() {
    return static_cast<int>(threadIdx.x) / S::kChunks;
  }
  // Where copy i goes, `to` being where the first goes.
  static __device__ uint32_t place(uint32_t to, int i) {
    if constexpr (S::kRowStride % 8 == 0) {
      return to + static_cast<uint32_t>(i * S::kRowStride * S::kPitch);
    } else {  // the row's place among eight changes
      const uint32_t first = S::offset(first_row(), chunk());
      return to - first + S::offset(first_row() + i * S::kRowStride, chunk());
    }
  }
  __device__ void aim_weights() {
    has_weight_ = 0;
    if (cursor_.is_done()) return;
    const Work<S>& work = cursor_.work;
    const Run& run = cursor_.run;
    const int64_t first = work.group_of(run) * work.args.weight_stride + chunk() * 8;
#pragma unroll
    for (int i = 0; i < S::kWeightCopies; ++i) {
      const int r = first_row() + i * S::kRowStride;
      const bool is_up = work.is_gelu() && (r & 8) != 0;
      const int col = work.is_gelu() ? r / kWarpRows * 8 + (r & 7) : r;
      if (col >= run.num_cols) continue;
      const auto* weight = reinterpret_cast<const bf16*>(is_up ? run.job.up : run.job.weight);
      weight_[i] = weight + first + int64_t{run.first_col + col} * work.args.k;
      has_weight_ |= 1u << i;
    }
  }

  Cursor<S> cursor_;
  int depth_ = 0;  // k where the next stage begins
  const bf16* weight_[S::kWeightCopies] = {};
  const bf16* token_[S::kTokenCopies] = {};
  uint32_t has_weight_ = 0;
  uint32_t has_token_ = 0;
  const uint64_t policy_ = drop_first_policy();
};

template <typename S>
using Sums = float[S::kTokenTiles][4];

__device__ int row_group(int depth_groups) {
  return warp_idx() / depth_groups;
}

// Tokens and whether this warp has weight rows: the same for all stages of a run.
template <typename S>
struct Extent {
  int num_tokens;
  bool is_used;

  __device__ Extent(const Run& run, bool is_gelu) : num_tokens(run.rows.end - run.rows.begin) {
    const int used_rows = is_gelu ? (run.num_cols + 7) / 8 * kWarpRows : run.num_cols;
    is_used = row_group(S::kDepthGroups) * kWarpRows < used_rows;
  }
};

// Where this lane's rows begin in a stage, for load_matrices.
template <typename S>
struct Lane {
  uint32_t weights;  // its row of operand a
  uint32_t tokens;   // its row of operand b
  int row;           // in eight
  int weight_chunk;
  int token_chunk;

  __device__ Lane() {
    const int lane = lane_idx();
    const int first_chunk = warp_idx() % S::kDepthGroups * (kWarpDepth / 8);
    row = lane & 7;
    weights =
        static_cast<uint32_t>((row_group(S::kDepthGroups) * kWarpRows + (lane & 15)) * S::kPitch);
    tokens = static_cast<uint32_t>(S::kWeightBytes + row * S::kPitch);
    weight_chunk = first_chunk + (lane >> 4);
    token_chunk = first_chunk + (lane >> 3);
  }
};

// sums += this warp's weight rows times the rows of x, over its part of the stage.
template <typename S>
__device__ void multiply_stage(uint32_t stage, const Lane<S>& lane, int num_tokens, Sums<S>& sums) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // 32 numbers of k
    uint32_t a[2][4];
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const int chunk = lane.weight_chunk + half * 4 + step * 2;
      load_matrices(a[step], stage + lane.weights + static_cast<uint32_t>((chunk ^ lane.row) * 16));
    }
    const uint32_t from = stage + lane.tokens +
                          static_cast<uint32_t>(((lane.token_chunk + half * 4) ^ lane.row) * 16);
#pragma unroll
    for (int i = 0; i < S::kTokenTiles; ++i) {
      if (i * 8 >= num_tokens) break;
      uint32_t b[4];
      load_matrices(b, from + static_cast<uint32_t>(i * 8 * S::kPitch));
      mma_bf16(sums[i], a[0], b[0], b[1]);
      mma_bf16(sums[i], a[1], b[2], b[3]);
    }
  }
}

// `second`: of up with kGelu.
__device__ void store(const MatmulArgs& args, const MatmulJob& job, int row, int col, float value,
                      float second) {
  const int64_t at = int64_t{row} * job.num_cols + col;
  if (args.epilogue == Epilogue::kGelu) {
    static_cast<bf16*>(job.out)[at] = from_float<bf16>(gelu_tanh(value) * second);
  } else if (args.epilogue == Epilogue::kStoreBf16) {
    static_cast<bf16*>(job.out)[at] = from_float<bf16>(value);
  } else {
    if (args.cap > 0) value = args.cap * tanhf(value / args.cap);
    if (args.row_scale != nullptr) value *= args.row_scale[row];
    static_cast<float*>(job.out)[at] = value;
  }
}

// One warp along k: results are in registers.
template <typename S>
__device__ void store_sums(const Work<S>& work, const Run& run, const Sums<S>& sums) {
  const int g = lane_idx() / 4;
  const int group = row_group(S::kDepthGroups);
  const auto put = [&](int row, int col, float value, float second) {
    if (col < run.num_cols) store(work.args, run.job, row, run.first_col + col, value, second);
  };
#pragma unroll
  for (int i = 0; i < S::kTokenTiles; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int row = run.rows.begin + i * 8 + (lane_idx() % 4) * 2 + j;
      if (row >= run.rows.end) continue;
      if (work.is_gelu()) {
        put(row, group * 8 + g, sums[i][j], sums[i][j + 2]);
      } else {
        put(row, group * kWarpRows + g, sums[i][j], 0);
        put(row, group * kWarpRows + g + 8, sums[i][j + 2], 0);
      }
    }
  }
}

// Several: adds their sums in order. `partial` is read until the next barrier of the block.
template <typename S>
__device__ void join_and_store(const Work<S>& work, const Run& run, const Sums<S>& sums,
                               float* partial) {
  const int depth_group = warp_idx() % S::kDepthGroups;
  const int first_row = row_group(S::kDepthGroups) * kWarpRows + lane_idx() / 4;
#pragma unroll
  for (int i = 0; i < S::kTokenTiles; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int token = i * 8 + (lane_idx() % 4) * 2 + j;
      float* to = partial + (depth_group * S::kTokens + token) * S::kPartialPitch + first_row;
      to[0] = sums[i][j];
      to[8] = sums[i][j + 2];
    }
  }
  __syncthreads();
  const auto total = [partial](int token, int row) {
    float sum = 0;
#pragma unroll
    for (int d = 0; d < S::kDepthGroups; ++d) {
      sum += partial[(d * S::kTokens + token) * S::kPartialPitch + row];
    }
    return sum;
  };
  const int num_results = (run.rows.end - run.rows.begin) * run.num_cols;
  for (int i = static_cast<int>(threadIdx.x); i < num_results; i += kThreads) {
    const int token = i / run.num_cols;
    const int col = i % run.num_cols;
    const int row = work.is_gelu() ? col / 8 * kWarpRows + col % 8 : col;
    store(work.args, run.job, run.rows.begin + token, run.first_col + col, total(token, row),
          work.is_gelu() ? total(token, row + 8) : 0);
  }
}

__device__ Share my_share(int64_t total) {
  const int64_t block = blockIdx.x;
  return {static_cast<int>(total * block / gridDim.x),
          static_cast<int>(total * (block + 1) / gridDim.x)};
}

template <typename S>
__global__ void __launch_bounds__(kThreads, 2) skinny_kernel(MatmulArgs args) {
  constexpr int kStages = S::kStages;
  BERYL_DYNAMIC_SHARED(unsigned char, shared);
  auto* const partial = reinterpret_cast<float*>(shared + kStages * S::kStageBytes);
  auto* const offsets =
      reinterpret_cast<int32_t*>(shared + kStages * S::kStageBytes + S::kPartialBytes);
  const bool is_grouped = args.num_groups > 0;
  int num_tiles = (args.num_rows + S::kTokens - 1) / S::kTokens;
  // Who finds the next kernel started early knows by that that the offsets are settled.
  const bool waits_first = is_grouped && !args.offsets_are_settled;
  if (waits_first) wait_for_earlier_kernels();
  let_next_kernel_start();
  if (is_grouped) {
    for (int i = static_cast<int>(threadIdx.x); i <= args.num_groups; i += kThreads) {
      offsets[i] = load_written(args.offsets + i);
    }
    __syncthreads();
    num_tiles = count_group_tiles(offsets, args.num_groups, S::kTokens);
  }
  int num_cols = 0;
  for (int j = 0; j < args.num_jobs; ++j) num_cols += args.jobs[j].num_cols;
  const Work<S> work = {args, offsets, num_cols, my_share(int64_t{num_tiles} * num_cols)};

  const uint32_t first_stage = shared_address(shared);
  const auto stage_address = [&](int stage) {
    return first_stage + static_cast<uint32_t>(stage * S::kStageBytes);
  };
  Loads<S> loads(work);
  // Weights are written by no kernel of a step: a part of the ring, within the first run, is filled
  // ahead of the wait.
  const int num_ahead = min(kStages / 2, (args.k + S::kDepth - 1) / S::kDepth);
  for (int s = 0; s < num_ahead; ++s) loads.start_weights(stage_address(s), s * S::kDepth);
  if (!waits_first) wait_for_earlier_kernels();
  loads.aim_tokens();
  const auto start = [&](uint32_t stage) {
    loads.start_weights(stage, loads.depth());
    loads.start_tokens(stage);
    commit_copies();
    loads.advance();
  };
  for (int s = 0; s < num_ahead; ++s) {
    loads.start_tokens(stage_address(s));
    commit_copies();
    loads.advance();
  }
  for (int s = num_ahead; s < kStages - 1; ++s) start(stage_address(s));
  Sums<S> sums = {};
  const Lane<S> lane;
  Cursor<S> cursor(work);
  for (int stage = 0; !cursor.is_done();) {
    const Extent<S> extent(cursor.run, work.is_gelu());
    for (int depth = 0; depth < args.k; depth += S::kDepth) {
      wait_copies<kStages - 2>();
      __syncthreads();  // the stage has arrived for all, and all are done with the one before
      start(stage_address(stage == 0 ? kStages - 1 : stage - 1));
      if (extent.is_used) {
        multiply_stage<S>(stage_address(stage), lane, extent.num_tokens, sums);
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    if constexpr (S::kDepthGroups == 1) {
      store_sums(work, cursor.run, sums);
    } else {
      join_and_store(work, cursor.run, sums, partial);
    }
#pragma unroll
    for (auto& tile : sums) {
#pragma unroll
      for (float& sum : tile) sum = 0;
    }
    cursor.next();
  }
}

template <typename S>
cudaError_t launch(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream) {
  static_assert(S::kStages * S::kStageBytes + S::kPartialBytes ==
                skinny_ring_bytes(S::kWeightRows, S::kTokens));
  return launch_overlapping_kernel(skinny_kernel<S>, dim3(static_cast<unsigned>(plan.num_blocks)),
                                   kThreads, skinny_shared_bytes(args, plan), stream, args);
}

}  // namespace

cudaError_t launch_skinny(const MatmulArgs& args, const MatmulPlan& plan, LaunchStream stream) {
  const auto is = [&](SkinnyShape shape) {
    return plan.weight_rows == shape.weight_rows && plan.tile_rows == shape.tile_rows;
  };
  if (is({16, 8})) return launch<Shape<1, 1>>(args, plan, stream);
  if (is({16, 16})) return launch<Shape<1, 2>>(args, plan, stream);
  if (is({32, 8})) return launch<Shape<2, 1>>(args, plan, stream);
  if (is({32, 32})) return launch<Shape<2, 4>>(args, plan, stream);
  if (is({32, 64})) return launch<Shape<2, 8>>(args, plan, stream);
  if (is({64, 8})) return launch<Shape<4, 1>>(args, plan, stream);
  if (is({64, 16})) return launch<Shape<4, 2>>(args, plan, stream);
  if (is({64, 32})) return launch<Shape<4, 4>>(args, plan, stream);
  if (is({64, 64})) return launch<Shape<4, 8>>(args, plan, stream);
  if (is({128, 64})) return launch<Shape<8, 8>>(args, plan, stream);
  return cudaErrorInvalidValue;
}

}  // namespace beryl::kernels::cuda
