#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda/matmul.h"

namespace beryl::kernels::cuda {
namespace {

// Mean rows of a group up to which streaming its weights beats tiles of 64.
constexpr int kMaxSkinnyGroupRows = 24;

// What the kernel of warpgroups takes.
constexpr int kMaxWarpgroupGroups = 1024;  // two numbers each in shared memory
bool fits_warpgroups(const MatmulArgs& args) {
  const MatmulJob& job = args.jobs[0];
  if (args.warpgroup_sms == 0 || args.num_groups == 0 || args.cap > 0) return false;
  if (args.num_groups > kMaxWarpgroupGroups) return false;
  if (args.epilogue == Epilogue::kGelu) {
    return job.up > job.weight && (job.up - job.weight) % kMatmulDepthUnit == 0;
  }
  return args.epilogue == Epilogue::kStore && job.num_cols % 16 == 0;
}

// Tiles of `tile_rows` that num_rows rows in num_groups groups can need: each group may leave one
// unfilled, and no tile is empty.
int64_t most_tiles(int64_t num_rows, int64_t num_groups, int64_t tile_rows) {
  if (num_groups == 0) return (num_rows + tile_rows - 1) / tile_rows;
  const int64_t used_groups = std::min(num_groups, num_rows);
  return std::min(num_rows, used_groups + (num_rows - used_groups) / tile_rows);
}

void check_args(const MatmulArgs& args) {
  const auto is_aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  BERYL_CHECK(args.k > 0 && args.k % kMatmulDepthUnit == 0);
  BERYL_CHECK(is_aligned(args.x) && args.weight_stride % kMatmulDepthUnit == 0);
  BERYL_CHECK(args.num_jobs >= 1 && args.num_jobs <= (args.num_groups > 0 ? 1 : kMaxMatmulJobs));
  BERYL_CHECK(args.num_groups == 0 || args.offsets != nullptr);
  BERYL_CHECK(args.row_scale == nullptr || args.epilogue == Epilogue::kStore);
  for (int i = 0; i < args.num_jobs; ++i) {
    const MatmulJob& job = args.jobs[i];
    BERYL_CHECK(job.weight != nullptr && job.out != nullptr && job.num_cols > 0);
    BERYL_CHECK(is_aligned(job.weight));
    if (args.epilogue != Epilogue::kGelu) continue;
    BERYL_CHECK(job.up != nullptr && is_aligned(job.up) && job.num_cols % 8 == 0);
  }
}

}  // namespace

MatmulPlan plan_matmul(const MatmulArgs& args) {
  MatmulPlan plan;
  const int groups = std::min(std::max(args.num_groups, 1), std::max(args.num_rows, 1));
  const int mean = (args.num_rows + groups - 1) / groups;
  const bool is_grouped = args.num_groups > 0;
  const bool is_skinny = mean <= (is_grouped ? kMaxSkinnyGroupRows : kMaxSkinnyRows);
  plan.kernel = is_skinny ? MatmulPlan::Kernel::kSkinny : MatmulPlan::Kernel::kTile;
  if (!is_skinny && fits_warpgroups(args)) {
    plan.kernel = MatmulPlan::Kernel::kWarpgroup;
    plan.tile_rows = mean <= 160 ? 192 : 256;
    return plan;
  }
  if (is_skinny) {
    plan.tile_rows = mean <= 8 ? 8 : mean <= 16 ? 16 : 32;
  } else {
    plan.tile_rows = mean <= (is_grouped ? 96 : 64) ? 64 : 128;
  }
  plan.num_row_tiles = static_cast<int>(most_tiles(args.num_rows, args.num_groups, plan.tile_rows));
  return plan;
}

cudaError_t launch_matmul(const MatmulArgs& args, LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  check_args(args);
  const MatmulPlan plan = plan_matmul(args);
  switch (plan.kernel) {
    case MatmulPlan::Kernel::kSkinny:
      return launch_skinny(args, plan, stream);
    case MatmulPlan::Kernel::kTile:
      return launch_tile(args, plan, stream);
    case MatmulPlan::Kernel::kWarpgroup:
      return launch_warpgroup(args, plan, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace beryl::kernels::cuda
