// Speed of the vision tower on one rank: soft tokens and floating-point operations a second,
// against what a linear layer of its own shape reaches on the same threads or device. Verified
// first: a picture must have the same features alone and in company.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "worker/model/vision_tower.h"

namespace beryl::bench {

struct PictureSize {
  int width = 0;  // pixels
  int height = 0;
};

struct VisionResult {
  int num_soft_tokens = 0;
  double median_ms = 0;
  double tokens_per_s = 0;
  double gflop_per_s = 0;
  double attention_share = 0;  // of the operations
};

// Multiply-adds count as two; norms and softmax do not count.
struct VisionFlops {
  double linear = 0;     // patch embedding, projections, feed-forward, projector
  double attention = 0;  // grows with the square of the patches

  double total() const { return linear + attention; }
};
VisionFlops vision_flops(const model::ModelConfig& config, int64_t num_patches);

// Throws std::runtime_error where the features differ.
void verify_vision(model::VisionTower& tower, const model::VisionConfig& config, kernels::Ops& ops);

// Median of `repeats` runs after one that warms up. Throws for an illegal size.
VisionResult measure_vision(model::VisionTower& tower, const model::ModelConfig& config,
                            kernels::Ops& ops, PictureSize size, int repeats);

// FLOP/s of [num_rows, hidden] times [intermediate, hidden]^T: the best of `repeats` runs.
double measure_linear(kernels::Ops& ops, const model::VisionConfig& config,
                      const kernels::TensorView& weight, int64_t num_rows, int repeats);

}  // namespace beryl::bench
