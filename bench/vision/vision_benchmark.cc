#include "bench/vision/vision_benchmark.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "bench/parity/picture.h"

namespace beryl::bench {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Back ends whose plans depend on the number of rows may differ in their last bits.
constexpr double kMaxDeviceDifference = 2e-2;  // of the largest feature

std::vector<float> on_host(kernels::Ops& ops, const kernels::TensorView& rows) {
  std::vector<float> values(static_cast<size_t>(rows.num_elements()));
  ops.download(values.data(), rows.data, rows.num_bytes());
  return values;
}

// Written so that a NaN is no agreement.
bool agree(const std::vector<float>& a, const std::vector<float>& b, double max_difference) {
  double largest = 0;
  for (const float value : a) largest = std::max(largest, std::abs(static_cast<double>(value)));
  bool all = largest > 0;
  for (size_t i = 0; i < a.size(); ++i) {
    all = all && std::abs(static_cast<double>(a[i]) - b[i]) <= max_difference * largest;
  }
  return all;
}

model::Features encode(model::VisionTower& tower, const std::vector<kernels::ImageView>& images) {
  auto features = tower.encode(images);
  if (!features) throw std::runtime_error(features.error().message);
  return *std::move(features);
}

}  // namespace

VisionFlops vision_flops(const model::ModelConfig& config, int64_t num_patches) {
  const model::VisionConfig& vision = *config.vision;
  const double patches = static_cast<double>(num_patches);
  const double hidden = vision.hidden_size;
  const double heads_width = static_cast<double>(vision.num_attention_heads) * vision.head_dim;
  const double patch_dim = 3.0 * vision.patch_size * vision.patch_size;
  const double square =
      static_cast<double>(vision.pooling_kernel_size) * vision.pooling_kernel_size;
  const double layer = 4 * hidden * heads_width + 3 * hidden * vision.intermediate_size;
  return {.linear = 2 * patches *
                    (patch_dim * hidden + vision.num_hidden_layers * layer +
                     hidden * config.hidden_size / square),
          .attention = 4 * patches * patches * heads_width * vision.num_hidden_layers};
}

void verify_vision(model::VisionTower& tower, const model::VisionConfig& config,
                   kernels::Ops& ops) {
  const auto side = static_cast<unsigned>(config.soft_token_size());
  const media::RgbImage small = draw_picture(side, 2 * side);
  const media::RgbImage large = draw_picture(3 * side, 2 * side);
  const model::Features alone = encode(tower, {view_of(large)});
  const model::Features both = encode(tower, {view_of(small), view_of(large)});
  const std::vector<float> expected = on_host(ops, alone.view());
  const std::vector<float> found = on_host(ops, both.view().rows(2, alone.num_tokens()));
  if (!agree(expected, found, ops.memory_is_host() ? 0 : kMaxDeviceDifference)) {
    throw std::runtime_error("a picture alone and in company differ: nothing was measured");
  }
}

VisionResult measure_vision(model::VisionTower& tower, const model::ModelConfig& config,
                            kernels::Ops& ops, PictureSize size, int repeats) {
  const auto num_tokens = tower.num_soft_tokens(size.height, size.width);
  if (!num_tokens) throw std::runtime_error(num_tokens.error().message);
  const media::RgbImage picture =
      draw_picture(static_cast<unsigned>(size.height), static_cast<unsigned>(size.width));
  std::vector<double> seconds;
  for (int i = 0; i <= repeats; ++i) {
    const auto start = Clock::now();
    const model::Features features = encode(tower, {view_of(picture)});
    ops.download(nullptr, nullptr, 0);  // waits for a device
    if (i > 0) seconds.push_back(seconds_since(start));
  }
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const int side = config.vision->pooling_kernel_size;
  const VisionFlops flops = vision_flops(config, int64_t{*num_tokens} * side * side);
  return {.num_soft_tokens = *num_tokens,
          .median_ms = median * 1e3,
          .tokens_per_s = *num_tokens / median,
          .gflop_per_s = flops.total() / median / 1e9,
          .attention_share = flops.attention / flops.total()};
}

double measure_linear(kernels::Ops& ops, const model::VisionConfig& config,
                      const kernels::TensorView& weight, int64_t num_rows, int repeats) {
  const int64_t hidden = config.hidden_size;
  const int64_t width = config.intermediate_size;
  const kernels::DType activation = ops.activation_dtype();
  const model::Features out(ops, num_rows, width);
  const model::Features memory(ops, num_rows, hidden);
  const kernels::TensorView x(memory.view().data, activation, {num_rows, hidden});
  // 0.5 in either type.
  const bool is_bf16 = activation == kernels::DType::kBFloat16;
  const std::vector<uint32_t> halves(x.num_bytes() / sizeof(uint32_t),
                                     is_bf16 ? 0x3f003f00u : 0x3f000000u);
  ops.upload(x.data, halves.data(), x.num_bytes());
  ops.download(nullptr, nullptr, 0);
  double best = 0;
  for (int i = 0; i <= repeats; ++i) {
    const auto start = Clock::now();
    ops.linear(x, weight, out.view());
    ops.download(nullptr, nullptr, 0);
    const double flops = 2.0 * static_cast<double>(num_rows * hidden * width);
    best = std::max(best, flops / seconds_since(start));
  }
  return best;
}

}  // namespace beryl::bench
