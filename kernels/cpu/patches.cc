#include "kernels/cpu/patches.h"

#include <algorithm>
#include <array>

namespace beryl::kernels::cpu {
namespace {

constexpr int kChannels = 3;
constexpr int64_t kParallelRows = 4;

// The float32 roundings of the reference: pixel * (1 / 255) first, then the map to [-1, 1].
std::array<float, 256> pixel_values() {
  std::array<float, 256> values;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = 2.0f * (static_cast<float>(i) * (1.0f / 255.0f) - 0.5f);
  }
  return values;
}

}  // namespace

void Patches::cut(const ImageView* images, int num_images, int patch_size, const TensorView& out) {
  const std::array<float, 256> values = pixel_values();
  const int run = kChannels * patch_size;  // numbers of a patch that lie side by side
  const int64_t patch_dim = int64_t{run} * patch_size;
  float* to = out.f32();
  for (int i = 0; i < num_images; ++i) {
    const ImageView& image = images[i];
    const int64_t pitch = int64_t{kChannels} * image.width;
    const int columns = image.width / patch_size;
    const int64_t num_patches = int64_t{columns} * (image.height / patch_size);
    context_.pool.parallel_for(num_patches, kParallelRows, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const uint8_t* from = image.pixels + p / columns * patch_size * pitch + p % columns * run;
        float* row = to + p * patch_dim;
        for (int y = 0; y < patch_size; ++y, from += pitch, row += run) {
          for (int x = 0; x < run; ++x) row[x] = values[from[x]];
        }
      }
    });
    to += num_patches * patch_dim;
  }
  BERYL_CHECK(to == out.f32() + out.num_elements());
}

void Patches::add_positions(const TensorView& table, const PatchBatch& batch, const TensorView& x) {
  const int64_t hidden = table.shape[2];
  const int64_t length = table.shape[1];
  BERYL_CHECK(x.num_elements() == batch.num_patches() * hidden);
  float* to = x.f32();
  for (int i = 0; i < batch.num_images; ++i) {
    const PatchGrid& grid = batch.grids[i];
    BERYL_CHECK(grid.width <= length && grid.height <= length);
    context_.pool.parallel_for(grid.num_patches(), kParallelRows, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const uint16_t* column = table.bf16() + p % grid.width * hidden;
        const uint16_t* row = table.bf16() + (length + p / grid.width) * hidden;
        context_.kernels.add_weights(column, row, static_cast<int>(hidden), to + p * hidden);
      }
    });
    to += grid.num_patches() * hidden;
  }
}

void Patches::pool(const PatchPooling& pooling, const TensorView& x, const PatchBatch& batch,
                   const TensorView& out) {
  const int64_t hidden = x.shape[1];
  const auto n = static_cast<int>(hidden);
  const int side = pooling.kernel_size;
  const auto factor = static_cast<float>(static_cast<double>(pooling.scale) / (side * side));
  BERYL_CHECK(out.num_elements() * side * side == batch.num_patches() * hidden);
  BERYL_CHECK(pooling.std_bias.empty() == pooling.std_scale.empty());
  const float* from = x.f32();
  float* to = out.f32();
  for (int i = 0; i < batch.num_images; ++i) {
    const PatchGrid& grid = batch.grids[i];
    BERYL_CHECK(grid.width % side == 0 && grid.height % side == 0);
    const int columns = grid.width / side;
    const int64_t num_tokens = int64_t{columns} * (grid.height / side);
    context_.pool.parallel_for(num_tokens, kParallelRows, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t corner = t / columns * side * grid.width + t % columns * side;
        float* sum = to + t * hidden;
        std::fill(sum, sum + hidden, 0.0f);
        for (int j = 0; j < side * side; ++j) {
          const int64_t patch = corner + j / side * int64_t{grid.width} + j % side;
          context_.kernels.add_rows(sum, from + patch * hidden, n, sum);
        }
        context_.kernels.scale_row(sum, factor, n, sum);
        if (pooling.std_bias.empty()) continue;
        context_.kernels.standardize_row(pooling.std_bias.bf16(), pooling.std_scale.bf16(), n, sum);
      }
    });
    from += grid.num_patches() * hidden;
    to += num_tokens * hidden;
  }
}

}  // namespace beryl::kernels::cpu
