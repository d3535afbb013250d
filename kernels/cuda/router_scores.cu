// The product of a router on tensor cores. Block (32 rows, 128 experts, a part of K): rows are
// multiplied by the scale in float32 and cut into three bf16 numbers of 8 bits each, which hold all
// 24, so the products are exact and only their sums round. Weights arrive by asynchronous copies
// while the chunk before is multiplied.
#include <algorithm>

#include "kernels/cuda/group_few.cuh"
#include "kernels/cuda/router_choice.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kRows = 32;
constexpr int kExperts = 128;
constexpr int kDepth = 64;  // of K in a chunk
constexpr int kPlanes = 3;
constexpr int kStride = kDepth + 8;  // numbers of a row in shared memory: no two in one bank
constexpr int kThreads = 256;
constexpr int kWarpExperts = 32;  // warps: 2 times 16 rows, 4 times 32 experts
constexpr int kStages = 3;        // chunks of weights in shared memory
constexpr int kThreadNumbers = kRows * kDepth / kThreads;
static_assert(kThreadNumbers == 8);

struct SharedTiles {
  bf16 weights[kStages][kExperts * kStride];
  bf16 rows[2][kPlanes][kRows * kStride];
};

struct ScoresArgs {
  const float* x;
  const bf16* proj;
  const bf16* scale;
  RouterScores scores;
  int chunks_per_part;
  RouterTail tail;
};

// Shared memory of the tail, in place of the tiles.
struct TailShared {
  ChoicePartials<kFewLaneExperts> partials;
  FewEntries entries;
  unsigned is_last;
};
constexpr int kMaxTailRows = 4;
static_assert(sizeof(TailShared) <= sizeof(SharedTiles) && kThreads == kChoiceThreads);

// Eight numbers of a row and their scale, of one chunk.
struct RowNumbers {
  float x[kThreadNumbers];
  uint4 scale;
};

__device__ RowNumbers load_rows(const ScoresArgs& args, int row, int k) {
  RowNumbers numbers = {};
  if (row >= args.scores.num_rows || k >= args.scores.width) return numbers;
  const float* from = args.x + int64_t{row} * args.scores.width + k;
  const float4 a = *reinterpret_cast<const float4*>(from);
  const float4 b = *reinterpret_cast<const float4*>(from + 4);
  numbers = {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w},
             *reinterpret_cast<const uint4*>(args.scale + k)};
  return numbers;
}

struct alignas(16) Eight {
  bf16 numbers[kThreadNumbers];
};

// Cuts x * scale into planes; returns the sum of x^2.
__device__ float store_rows(const RowNumbers& numbers, bf16 (&planes)[kPlanes][kRows * kStride],
                            int at) {
  const auto* scale = reinterpret_cast<const bf16*>(&numbers.scale);
  Eight packed[kPlanes];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kThreadNumbers; ++i) {
    squares += numbers.x[i] * numbers.x[i];
    float rest = numbers.x[i] * to_float(scale[i]);
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) {
      const bf16 part = from_float<bf16>(rest);
      packed[p].numbers[i] = part;
      rest -= to_float(part);
    }
  }
#pragma unroll
  for (int p = 0; p < kPlanes; ++p) *reinterpret_cast<Eight*>(&planes[p][at]) = packed[p];
  return squares;
}

// Starts the copies of one chunk of weights; nothing beyond K or the last expert.
__device__ void copy_weights(const ScoresArgs& args, int first_expert, int k, bf16* to) {
  constexpr int kPieces = kDepth / 8;  // of 16 bytes in a row
#pragma unroll
  for (int i = 0; i < kExperts * kPieces / kThreads; ++i) {
    const int piece = i * kThreads + static_cast<int>(threadIdx.x);
    const int expert = first_expert + piece / kPieces;
    const int at = k + piece % kPieces * 8;
    const bool is_valid = expert < args.scores.num_experts && at < args.scores.width;
    const bf16* from = is_valid ? args.proj + int64_t{expert} * args.scores.width + at : args.proj;
    copy_async(shared_address(to + piece / kPieces * kStride + piece % kPieces * 8), from,
               is_valid);
  }
}

// Brings the first two chunks to the second-level cache.
__device__ void prefetch_weights(const ScoresArgs& args, int first_expert, int begin, int end) {
  static_assert(kThreads == 2 * kExperts);
  const int expert = first_expert + static_cast<int>(threadIdx.x) / 2;
  const int chunk = begin + static_cast<int>(threadIdx.x) % 2;
  if (expert >= args.scores.num_experts || chunk >= end) return;
  prefetch(args.proj + int64_t{expert} * args.scores.width + chunk * kDepth);
}

// Adds the products of one chunk. They have sums of their own, because tensor cores cut off what
// they add, where an addition here rounds.
__device__ void multiply_chunk(const bf16* weights, const bf16 (&planes)[kPlanes][kRows * kStride],
                               float (&sums)[kWarpExperts / 8][4]) {
  float chunk[kWarpExperts / 8][4] = {};
  const int lane = lane_idx();
  const int row = warp_idx() / 4 * 16 + lane % 16;
  const int expert = warp_idx() % 4 * kWarpExperts + lane / 16 * 8 + lane % 8;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t b[kWarpExperts / 16][4];
#pragma unroll
    for (int i = 0; i < kWarpExperts / 16; ++i) {
      load_matrices(b[i],
                    shared_address(weights + (expert + i * 16) * kStride + k + lane / 8 % 2 * 8));
    }
#pragma unroll
    for (int p = 0; p < kPlanes; ++p) {
      uint32_t a[4];
      load_matrices(a, shared_address(&planes[p][row * kStride + k + lane / 16 * 8]));
#pragma unroll
      for (int i = 0; i < kWarpExperts / 8; ++i) {
        mma_bf16(chunk[i], a, b[i / 2][i % 2 * 2], b[i / 2][i % 2 * 2 + 1]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kWarpExperts / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] += chunk[i][j];
  }
}

__device__ void store_sums(const ScoresArgs& args, const float (&sums)[kWarpExperts / 8][4],
                           int first_row, int first_expert) {
  const RouterScores& scores = args.scores;
  const int row = first_row + warp_idx() / 4 * 16 + lane_idx() / 4;
  const int expert = first_expert + warp_idx() % 4 * kWarpExperts + lane_idx() % 4 * 2;
#pragma unroll
  for (int i = 0; i < kWarpExperts / 8; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t r = row + j / 2 * 8;
      const int e = expert + i * 8 + j % 2;
      if (r >= scores.num_rows || e >= scores.num_experts) continue;
      scores.dots[(int64_t{blockIdx.z} * scores.num_rows + r) * scores.num_experts + e] =
          sums[i][j];
    }
  }
}

// By all threads of every block; only those of the block that comes last do anything.
__device__ void finish_tail(const ScoresArgs& args, TailShared& shared) {
  __threadfence();  // what this block wrote comes before its ticket
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.is_last = atomicAdd(args.tail.tickets, 1u) + 1 == gridDim.z ? 1 : 0;
    if (shared.is_last != 0) *args.tail.tickets = 0;
  }
  __syncthreads();
  if (shared.is_last == 0) return;
  __threadfence();
  const int rows = args.scores.num_rows;
  const int row_warps = rows == 1 ? kChoiceWarps : rows == 2 ? kChoiceWarps / 2 : kChoiceWarps / 4;
  choose_rows<kFewLaneExperts>(args.scores, args.tail.choice, 0, row_warps, shared.partials,
                               shared.entries.ids);
  if (args.tail.group.topk_idx == nullptr) return;
  __syncthreads();
  group_few(args.tail.group, shared.entries);
}

__global__ void __launch_bounds__(kThreads) router_scores_kernel(ScoresArgs args) {
  let_next_kernel_start();
  BERYL_DYNAMIC_SHARED(unsigned char, memory);
  auto& tiles = *reinterpret_cast<SharedTiles*>(memory);
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int first_expert = static_cast<int>(blockIdx.y) * kExperts;
  const int num_chunks = (args.scores.width + kDepth - 1) / kDepth;
  const int begin = static_cast<int>(blockIdx.z) * args.chunks_per_part;
  const int end = min(begin + args.chunks_per_part, num_chunks);
  prefetch_weights(args, first_expert, begin, end);
  wait_for_earlier_kernels();
  // Thread t holds numbers of row t / 8.
  constexpr int kRowThreads = kDepth / kThreadNumbers;
  const int t = static_cast<int>(threadIdx.x);
  const int my_row = first_row + t / kRowThreads;
  const int my_k = t % kRowThreads * kThreadNumbers;
  const int my_place = t / kRowThreads * kStride + my_k;
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (begin + stage < end) {
      copy_weights(args, first_expert, (begin + stage) * kDepth, tiles.weights[stage]);
    }
    commit_copies();
  }
  RowNumbers numbers = load_rows(args, my_row, begin * kDepth + my_k);
  float squares = 0;
  float sums[kWarpExperts / 8][4] = {};
  for (int chunk = begin; chunk < end; ++chunk) {
    auto& planes = tiles.rows[(chunk - begin) % 2];
    squares += store_rows(numbers, planes, my_place);
    if (chunk + 1 < end) numbers = load_rows(args, my_row, (chunk + 1) * kDepth + my_k);
    wait_copies<kStages - 2>();
    __syncthreads();  // the chunk has landed, and the one before has been multiplied
    const int next = chunk + kStages - 1;
    if (next < end) {
      copy_weights(args, first_expert, next * kDepth, tiles.weights[(next - begin) % kStages]);
    }
    commit_copies();
    multiply_chunk(tiles.weights[(chunk - begin) % kStages], planes, sums);
  }
  store_sums(args, sums, first_row, first_expert);
  for (int d = kRowThreads / 2; d > 0; d /= 2) squares += __shfl_xor_sync(kAllLanes, squares, d);
  if (blockIdx.y == 0 && t % kRowThreads == 0 && my_row < args.scores.num_rows) {
    args.scores.squares[int64_t{blockIdx.z} * args.scores.num_rows + my_row] = squares;
  }
  if (args.tail.tickets != nullptr) finish_tail(args, *reinterpret_cast<TailShared*>(memory));
}

}  // namespace

int router_parts(int64_t num_rows, int64_t num_experts, int64_t width, int num_sms) {
  const int64_t tiles = (num_rows + kRows - 1) / kRows * ((num_experts + kExperts - 1) / kExperts);
  const int64_t chunks = (width + kDepth - 1) / kDepth;
  // Two blocks fit a multiprocessor.
  const int64_t wanted = std::clamp<int64_t>(2 * num_sms / std::max<int64_t>(tiles, 1), 1, chunks);
  const int64_t chunks_per_part = (chunks + wanted - 1) / wanted;
  return static_cast<int>((chunks + chunks_per_part - 1) / chunks_per_part);
}

bool can_have_router_tail(int64_t num_rows, int64_t num_experts, int64_t top_k) {
  return num_rows <= kMaxTailRows && num_experts <= kFewExperts &&
         num_rows * top_k <= kMaxFewEntries;
}

cudaError_t launch_router_scores(const RouterWeights& weights, const float* x,
                                 const RouterScores& scores, const RouterTail& tail,
                                 LaunchStream stream) {
  if (scores.num_rows == 0) return cudaSuccess;
  const int chunks = (scores.width + kDepth - 1) / kDepth;
  const ScoresArgs args = {.x = x,
                           .proj = reinterpret_cast<const bf16*>(weights.proj.bf16()),
                           .scale = reinterpret_cast<const bf16*>(weights.scale.bf16()),
                           .scores = scores,
                           .chunks_per_part = (chunks + scores.num_parts - 1) / scores.num_parts,
                           .tail = tail};
  const dim3 grid(static_cast<unsigned>((scores.num_rows + kRows - 1) / kRows),
                  static_cast<unsigned>((scores.num_experts + kExperts - 1) / kExperts),
                  static_cast<unsigned>(scores.num_parts));
  return launch_overlapping_kernel(router_scores_kernel, grid, kThreads,
                                   static_cast<int>(sizeof(SharedTiles)), stream, args);
}

}  // namespace beryl::kernels::cuda
