#include "worker/model/vision_tower.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "parallel/base/assert.h"

namespace beryl::model {

using base::Expected;
using kernels::DType;
using kernels::ImageView;
using kernels::PatchBatch;
using kernels::PatchGrid;
using kernels::TensorView;

namespace {

constexpr int kChannels = 3;
// Rows of one call of the feed-forward network, whose inner rows are wide: 35 MB for 2,048 in
// float32. A GPU wants more rows at a time: 132 MB for 5,040, three bf16 tensors.
constexpr int64_t kFeedForwardRows = 2048;
constexpr int64_t kDeviceFeedForwardRows = kMaxImagePatches / 2;

int64_t num_patches(const ImageView& image, int patch_size) {
  return int64_t{image.height / patch_size} * (image.width / patch_size);
}

}  // namespace

VisionTower::VisionTower(const VisionTowerParts& parts, int64_t max_patches)
    : parts_(parts), vision_(*parts.config.vision), max_patches_(max_patches) {
  BERYL_ASSERT(max_patches > 0, "{} patches", max_patches);
  shape_ = {.num_heads = vision_.num_attention_heads,
            .head_dim = vision_.head_dim,
            .rms_norm_eps = vision_.rms_norm_eps,
            .inv_freq = vision_.inv_freq.data()};
  const int64_t hidden = vision_.hidden_size;
  const int64_t heads_width = int64_t{vision_.num_attention_heads} * vision_.head_dim;
  const int64_t patch_dim = int64_t{kChannels} * vision_.patch_size * vision_.patch_size;
  const DType activation = parts_.ops.activation_dtype();
  residual_ = allocate(DType::kFloat32, hidden);
  normed_ = allocate(activation, hidden);
  block_out_ = allocate(DType::kFloat32, hidden);
  q_ = allocate(activation, heads_width);
  k_ = allocate(activation, heads_width);
  v_ = allocate(activation, heads_width);
  attended_ = allocate(activation, std::max(heads_width, patch_dim));
  patches_ = attended_;
  attended_.shape[1] = heads_width;
  patches_.shape[1] = patch_dim;
}

size_t VisionTower::num_bytes(const VisionConfig& vision, int64_t max_patches) {
  const int64_t heads_width = int64_t{vision.num_attention_heads} * vision.head_dim;
  const int64_t patch_dim = int64_t{kChannels} * vision.patch_size * vision.patch_size;
  const int64_t width =
      3 * int64_t{vision.hidden_size} + 3 * heads_width + std::max(heads_width, patch_dim);
  return static_cast<size_t>(max_patches * width) * sizeof(float);
}

int64_t VisionTower::feed_forward_rows(bool is_device) {
  return is_device ? kDeviceFeedForwardRows : kFeedForwardRows;
}

VisionTower::~VisionTower() {
  for (void* memory : allocations_) parts_.ops.free(memory);
}

TensorView VisionTower::allocate(DType dtype, int64_t width) {
  TensorView view(nullptr, dtype, {max_patches_, width});
  view.data = parts_.ops.allocate(view.num_bytes());
  allocations_.push_back(view.data);
  return view;
}

Expected<int> VisionTower::num_soft_tokens(int height, int width) const {
  const int unit = vision_.soft_token_size();
  const int longest = vision_.position_embedding_size * vision_.patch_size;
  if (height <= 0 || width <= 0 || height % unit != 0 || width % unit != 0) {
    return base::invalid_argument(
        "image", fmt::format("expected sides that are multiples of {} pixels, found {} x {}", unit,
                             width, height));
  }
  const int64_t patches = int64_t{height / vision_.patch_size} * (width / vision_.patch_size);
  if (height > longest || width > longest || patches > max_patches_) {
    return base::invalid_argument(
        "image", fmt::format("expected at most {} patches of {} pixels and sides up to {} pixels, "
                             "found {} x {}",
                             max_patches_, vision_.patch_size, longest, width, height));
  }
  return (height / unit) * (width / unit);
}

Expected<Features> VisionTower::encode(std::span<const ImageView> images) {
  int64_t num_tokens = 0;
  for (const ImageView& image : images) {
    const Expected<int> count = num_soft_tokens(image.height, image.width);
    if (!count) return count.error();
    num_tokens += *count;
  }
  Features features(parts_.ops, num_tokens, parts_.config.hidden_size);
  // As many pictures at a time as fit.
  const int64_t patches_per_token =
      int64_t{vision_.pooling_kernel_size} * vision_.pooling_kernel_size;
  int64_t first_token = 0;
  for (size_t begin = 0; begin < images.size();) {
    size_t end = begin;
    int64_t sum = 0;
    while (end < images.size() &&
           sum + num_patches(images[end], vision_.patch_size) <= max_patches_) {
      sum += num_patches(images[end++], vision_.patch_size);
    }
    const int64_t count = sum / patches_per_token;
    encode_group(images.subspan(begin, end - begin), features.view().rows(first_token, count));
    first_token += count;
    begin = end;
  }
  return features;
}

void VisionTower::encode_group(std::span<const ImageView> images, const TensorView& out) {
  kernels::Ops& ops = parts_.ops;
  const weights::VisionWeights& weights = parts_.weights;
  const int patch_size = vision_.patch_size;
  std::vector<PatchGrid> grids;
  for (const ImageView& image : images) {
    grids.push_back({.height = image.height / patch_size, .width = image.width / patch_size});
  }
  const PatchBatch batch = {.num_images = static_cast<int>(grids.size()), .grids = grids.data()};
  const int64_t count = batch.num_patches();
  const TensorView residual = residual_.rows(0, count);

  const TensorView patches = patches_.rows(0, count);
  ops.cut_patches(images.data(), batch.num_images, patch_size, patches);
  ops.linear(patches, weights.patch_proj, residual);
  ops.add_patch_positions(weights.position_table, batch, residual);
  for (const weights::VisionLayerWeights& layer : weights.layers) {
    attention_block(layer, batch);
    feed_forward_block(layer, count);
  }
  const TensorView pooled = block_out_.rows(0, out.shape[0]);
  const TensorView normed = normed_.rows(0, out.shape[0]);
  const double scale = std::sqrt(static_cast<double>(vision_.hidden_size));
  ops.pool_patches({.kernel_size = vision_.pooling_kernel_size,
                    .scale = static_cast<float>(scale),
                    .std_bias = weights.std_bias,
                    .std_scale = weights.std_scale},
                   residual, batch, pooled);
  ops.rms_norm(pooled, {}, vision_.rms_norm_eps, normed);
  ops.linear(normed, weights.embedding_projection, out);
}

void VisionTower::attention_block(const weights::VisionLayerWeights& layer,
                                  const PatchBatch& batch) {
  kernels::Ops& ops = parts_.ops;
  const float eps = vision_.rms_norm_eps;
  const int64_t count = batch.num_patches();
  const TensorView residual = residual_.rows(0, count);
  const TensorView normed = normed_.rows(0, count);
  const TensorView attended = attended_.rows(0, count);
  const TensorView projected = block_out_.rows(0, count);
  const kernels::PatchQkv qkv = {q_.rows(0, count), k_.rows(0, count), v_.rows(0, count)};
  ops.rms_norm(residual, layer.input_layernorm, eps, normed);
  ops.patch_attention_inputs(shape_, layer.attention, normed, batch, qkv);
  ops.patch_attention(shape_, qkv, batch, attended);
  ops.linear(attended, layer.o_proj, projected);
  ops.add_rms_norm(projected, layer.post_attention_layernorm, eps, residual);
}

void VisionTower::feed_forward_block(const weights::VisionLayerWeights& layer,
                                     int64_t num_patches) {
  kernels::Ops& ops = parts_.ops;
  const float eps = vision_.rms_norm_eps;
  const TensorView residual = residual_.rows(0, num_patches);
  const TensorView normed = normed_.rows(0, num_patches);
  const TensorView out = block_out_.rows(0, num_patches);
  ops.rms_norm(residual, layer.pre_feedforward_layernorm, eps, normed);
  const int64_t most = feed_forward_rows(!ops.memory_is_host());
  for (int64_t begin = 0; begin < num_patches; begin += most) {
    const int64_t count = std::min(most, num_patches - begin);
    ops.gated_mlp(layer.mlp, normed.rows(begin, count), out.rows(begin, count));
  }
  ops.add_rms_norm(out, layer.post_feedforward_layernorm, eps, residual);
}

}  // namespace beryl::model
