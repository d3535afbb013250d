#include <algorithm>
#include <cstdint>

#include "kernels/check.h"
#include "kernels/cuda/matmul.h"

namespace beryl::kernels::cuda {
namespace {

// Mean rows of a group up to which streaming its weights beats tiles of 64, and warpgroups.
constexpr int kMaxSkinnyGroupRows = 48;
constexpr int kMaxSkinnyRowsBesideWarpgroups = 24;

constexpr int kHalfSharedBytes = 113 << 10;  // what two blocks an SM of sm_90 may have each

// What the kernel of warpgroups takes.
constexpr int kMaxWarpgroupGroups = 1024;  // two numbers each in shared memory
bool fits_warpgroups(const MatmulArgs& args, const DeviceLimits& device) {
  const MatmulJob& job = args.jobs[0];
  if (!device.has_wgmma || args.num_groups == 0 || args.cap > 0) return false;
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

int64_t all_cols(const MatmulArgs& args) {
  int64_t cols = 0;
  for (int j = 0; j < args.num_jobs; ++j) cols += args.jobs[j].num_cols;
  return cols;
}

// Measured on an H100. Few columns a block: narrow stages, whose pieces of weight rows are long.
// Many rows of x: wide ones, since each stage brings them again.
SkinnyShape choose_skinny_shape(const MatmulArgs& args, int mean_rows, int num_sms) {
  if (args.num_groups > 0) {
    // Experts differ in their rows, and one that needs a second tile is read twice.
    if (mean_rows <= 1) return {32, 8};
    if (mean_rows <= 2) return {64, 16};
    return mean_rows <= 20 ? SkinnyShape{64, 32} : SkinnyShape{128, 64};
  }
  const int rows_a_col = args.epilogue == Epilogue::kGelu ? 2 : 1;
  const int64_t an_sm = all_cols(args) * rows_a_col / num_sms;
  if (mean_rows <= 16) {
    const int tile_rows = mean_rows <= 8 ? 8 : 16;
    return {an_sm <= 128 ? 16 : 64, tile_rows};
  }
  const int tile_rows = mean_rows <= 32 ? 32 : 64;
  if (tile_rows == 64 && an_sm > 128) return {128, 64};
  return {an_sm <= 32 ? 32 : 64, tile_rows};
}

void plan_skinny(const MatmulArgs& args, int mean_rows, const DeviceLimits& device,
                 MatmulPlan& plan) {
  SkinnyShape shape = choose_skinny_shape(args, mean_rows, device.num_sms);
  plan.weight_rows = shape.weight_rows;
  plan.tile_rows = shape.tile_rows;
  // Where shared memory is small: stages of 64 rows need the least.
  for (const int tile_rows : {32, 16, 8}) {
    if (skinny_shared_bytes(args, plan) <= device.max_shared_bytes) break;
    plan.weight_rows = 64;
    plan.tile_rows = std::min(plan.tile_rows, tile_rows);
  }
  const int blocks_an_sm = skinny_shared_bytes(args, plan) <= kHalfSharedBytes ? 2 : 1;
  plan.num_blocks = blocks_an_sm * device.num_sms;
}

}  // namespace

int max_skinny_rows(const MatmulArgs& args) {
  // Where one launch replaces two or three of cuBLASLt and what follows them.
  const bool replaces_more = args.epilogue == Epilogue::kGelu || args.num_jobs == 3 || args.cap > 0;
  return replaces_more ? 64 : 32;
}

MatmulPlan plan_matmul(const MatmulArgs& args, const DeviceLimits& device) {
  MatmulPlan plan;
  const int groups = std::min(std::max(args.num_groups, 1), std::max(args.num_rows, 1));
  const int mean = (args.num_rows + groups - 1) / groups;
  const bool is_grouped = args.num_groups > 0;
  const bool has_warpgroups = fits_warpgroups(args, device);
  const int max_skinny = has_warpgroups ? kMaxSkinnyRowsBesideWarpgroups
                         : is_grouped   ? kMaxSkinnyGroupRows
                                        : max_skinny_rows(args);
  const bool is_skinny = mean <= max_skinny;
  plan.kernel = is_skinny ? MatmulPlan::Kernel::kSkinny : MatmulPlan::Kernel::kTile;
  if (!is_skinny && has_warpgroups) {
    plan.kernel = MatmulPlan::Kernel::kWarpgroup;
    plan.tile_rows = mean <= 160 ? 192 : 256;
    plan.num_blocks = device.num_sms;
    return plan;
  }
  if (is_skinny) {
    plan_skinny(args, mean, device, plan);
  } else {
    plan.tile_rows = mean <= (is_grouped ? 96 : 64) ? 64 : 128;
  }
  plan.num_row_tiles = static_cast<int>(most_tiles(args.num_rows, args.num_groups, plan.tile_rows));
  BERYL_CHECK(!is_skinny || plan.num_row_tiles * all_cols(args) <= INT32_MAX);
  return plan;
}

cudaError_t launch_matmul(const MatmulArgs& args, const DeviceLimits& device, LaunchStream stream) {
  if (args.num_rows == 0) return cudaSuccess;
  check_args(args);
  const MatmulPlan plan = plan_matmul(args, device);
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
