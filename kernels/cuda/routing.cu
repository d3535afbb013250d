#include "kernels/cuda/routing.h"

#include "kernels/cuda/router_choice.cuh"

namespace beryl::kernels::cuda {
namespace {

constexpr int kFewRows = 256;  // up to which a row has a block of its own

template <int kLaneExperts>
__global__ void __launch_bounds__(kChoiceThreads)
    choose_experts_kernel(RouterScores scores, RouterChoice choice, int row_warps) {
  begin_overlapping_kernel();
  __shared__ ChoicePartials<kLaneExperts> partials;
  const int first_row = static_cast<int>(blockIdx.x) * (kChoiceWarps / row_warps);
  choose_rows<kLaneExperts>(scores, choice, first_row, row_warps, partials, nullptr);
}

}  // namespace

cudaError_t launch_choose_experts(const RouterScores& scores, const RouterChoice& choice,
                                  LaunchStream stream) {
  if (scores.num_rows == 0) return cudaSuccess;
  const int row_warps = scores.num_rows <= kFewRows ? kChoiceWarps : 1;
  const int block_rows = kChoiceWarps / row_warps;
  const auto blocks = static_cast<unsigned>((scores.num_rows + block_rows - 1) / block_rows);
  const auto kernel = scores.num_experts <= kFewExperts ? choose_experts_kernel<kFewLaneExperts>
                                                        : choose_experts_kernel<kMaxLaneExperts>;
  return launch_overlapping_kernel(kernel, blocks, kChoiceThreads, 0, stream, scores, choice,
                                   row_warps);
}

}  // namespace beryl::kernels::cuda
