#include "bench/parity/case_pictures.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace beryl::bench {

namespace {

using kernels::DType;
using kernels::TensorView;

int64_t count_patches(const media::RgbImage& picture, int patch_size) {
  const auto size = static_cast<unsigned>(patch_size);
  return int64_t{picture.height / size} * (picture.width / size);
}

std::vector<float> on_host(kernels::Ops& ops, const TensorView& rows) {
  std::vector<float> values(static_cast<size_t>(rows.num_elements()));
  ops.download(values.data(), rows.data, rows.num_bytes());
  return values;
}

void compare_patches(const std::vector<kernels::ImageView>& images,
                     const model::VisionTowerParts& parts, int64_t num_patches,
                     Comparison* comparison) {
  const int patch_size = parts.config.vision->patch_size;
  const int64_t patch_dim = int64_t{3} * patch_size * patch_size;
  const model::Features patches(parts.ops, num_patches, patch_dim);  // rows of float32 suit them
  parts.ops.cut_patches(images.data(), static_cast<int>(images.size()), patch_size, patches.view());
  comparison->add_patches(on_host(parts.ops, patches.view()));
  std::vector<int32_t> positions;
  for (const kernels::ImageView& image : images) {
    for (int y = 0; y < image.height / patch_size; ++y) {
      for (int x = 0; x < image.width / patch_size; ++x) {
        positions.push_back(x);
        positions.push_back(y);
      }
    }
  }
  comparison->add_patch_positions(positions);
}

}  // namespace

std::vector<FeatureSpan> find_spans(const ReferenceCase& reference,
                                    const model::ModelConfig& config) {
  std::vector<FeatureSpan> spans;
  if (reference.pictures.empty()) return spans;
  const std::vector<int32_t>& ids = reference.input_ids;
  const auto is_placeholder = [&](int32_t id) {
    return id == config.media.image || id == config.media.video;
  };
  const int side = config.vision->pooling_kernel_size;
  auto begin = std::find_if(ids.begin(), ids.end(), is_placeholder);
  for (const media::RgbImage& picture : reference.pictures) {
    const auto end = std::find_if_not(begin, ids.end(), is_placeholder);
    const int64_t num_tokens =
        count_patches(picture, config.vision->patch_size) / (int64_t{side} * side);
    if (end - begin != num_tokens) {
      throw std::runtime_error(
          fmt::format("case \"{}\": {} placeholders at {} stand for a picture of {} soft tokens",
                      reference.name, end - begin, begin - ids.begin(), num_tokens));
    }
    spans.push_back({static_cast<int>(begin - ids.begin()),
                     {nullptr, DType::kFloat32, {num_tokens, config.hidden_size}}});
    begin = std::find_if(end, ids.end(), is_placeholder);
  }
  return spans;
}

model::Features encode_pictures(const ReferenceCase& reference,
                                const model::VisionTowerParts& parts, Comparison* comparison) {
  std::vector<kernels::ImageView> images;
  int64_t largest = 1;
  int64_t num_patches = 0;
  for (const media::RgbImage& picture : reference.pictures) {
    images.push_back(view_of(picture));
    const int64_t count = count_patches(picture, parts.config.vision->patch_size);
    largest = std::max(largest, count);
    num_patches += count;
  }
  if (!reference.patches.empty()) compare_patches(images, parts, num_patches, comparison);
  model::VisionTower tower(parts, largest);
  auto features = tower.encode(images);
  if (!features) throw std::runtime_error(features.error().message);
  comparison->add_features(on_host(parts.ops, features->view()));
  return *std::move(features);
}

}  // namespace beryl::bench
