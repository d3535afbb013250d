// VisionTower: pictures into features for the decoder (spec: patch embedding, transformer layers
// over the patches of each picture, pooling, projection), written once over kernels::Ops. No other
// rank takes part.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "worker/model/features.h"
#include "worker/model/model_config.h"
#include "worker/weights/vision_weights.h"

namespace beryl::model {

// Patches of the largest picture: 1,120 soft tokens of nine patches.
constexpr int64_t kMaxImagePatches = 10080;

// What a tower works with; everything must outlive it. `config.vision` is set.
struct VisionTowerParts {
  const ModelConfig& config;
  const weights::VisionWeights& weights;
  kernels::Ops& ops;
};

class VisionTower {
 public:
  // Memory is taken here, for max_patches patches at a time.
  explicit VisionTower(const VisionTowerParts& parts, int64_t max_patches = kMaxImagePatches);
  ~VisionTower();
  // Of that memory.
  static size_t num_bytes(const VisionConfig& vision, int64_t max_patches = kMaxImagePatches);
  VisionTower(const VisionTower&) = delete;
  VisionTower& operator=(const VisionTower&) = delete;

  // Rows that are in the feed-forward network at a time.
  static int64_t feed_forward_rows(bool is_device);

  int hidden_size() const { return parts_.config.hidden_size; }  // of features

  // Soft tokens of a picture of this size, or why there is none: sides must be multiples of
  // soft_token_size(), no longer than the position table, together at most max_patches.
  base::Expected<int> num_soft_tokens(int height, int width) const;

  // Features of all pictures [soft tokens, hidden_size], picture after picture, each in rows of
  // soft tokens from top to bottom. A picture's features do not depend on the others. Fails for a
  // picture that num_soft_tokens() refuses.
  base::Expected<Features> encode(std::span<const kernels::ImageView> images);

 private:
  kernels::TensorView allocate(kernels::DType dtype, int64_t width);
  void encode_group(std::span<const kernels::ImageView> images, const kernels::TensorView& out);
  void attention_block(const weights::VisionLayerWeights& layer, const kernels::PatchBatch& batch);
  void feed_forward_block(const weights::VisionLayerWeights& layer, int64_t num_patches);

  VisionTowerParts parts_;
  const VisionConfig& vision_;
  int64_t max_patches_;
  kernels::PatchAttentionShape shape_;
  std::vector<void*> allocations_;
  // [max_patches, ...]
  kernels::TensorView residual_;
  kernels::TensorView normed_;
  kernels::TensorView block_out_;
  kernels::TensorView q_, k_, v_;
  kernels::TensorView attended_;
  kernels::TensorView patches_;  // shares the memory of attended_
};

}  // namespace beryl::model
