// ModelWeights: the weights of one rank as tensor views for kernels: everything that ranks share
// (the vision tower too), and this rank's own experts. Views point into the mapped checkpoint, into
// own memory or into memory of the operations.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "parallel/base/progress.h"
#include "worker/model/model_config.h"
#include "worker/weights/checkpoint.h"
#include "worker/weights/dummy_weights.h"
#include "worker/weights/vision_weights.h"
#include "worker/weights/weight_memory.h"

namespace beryl::weights {

struct LayerWeights {
  kernels::TensorView input_layernorm;              // [H]
  kernels::AttentionWeights attention;              // q, k, v projections and norms
  kernels::TensorView o_proj;                       // [H, num_heads * head_dim]
  kernels::TensorView post_attention_layernorm;     // [H]
  kernels::TensorView pre_feedforward_layernorm;    // [H] dense MLP input
  kernels::GatedMlpWeights mlp;                     // dense
  kernels::RouterWeights router;                    // all experts
  kernels::TensorView pre_feedforward_layernorm_2;  // [H] expert input
  kernels::ExpertWeights experts;                   // this rank's, in slot order
  kernels::FfnMergeWeights merge;
};

struct LoadOptions {
  // Where kernels will read the weights. Null, or operations on host memory: mapped files are used
  // in place. A device gets a copy of everything.
  kernels::Ops* ops = nullptr;
  std::span<const int32_t> local_experts = {};  // global ids in slot order
  int num_threads = 1;
  bool prefetch = true;  // from files: read this rank's part now instead of at first use
  base::ProgressListener progress = {};
};

struct DummySource {
  uint64_t seed = 0;
  double post_norm = kDefaultPostNorm;
};

class ModelWeights {
 public:
  // Throws LoadError before memory is taken. Experts whose ids are consecutive are viewed in place,
  // others are copied.
  static ModelWeights from_checkpoint(const model::ModelConfig& config, Checkpoint checkpoint,
                                      const LoadOptions& options);
  static ModelWeights from_seed(const model::ModelConfig& config, const DummySource& source,
                                const LoadOptions& options);

  const kernels::TensorView& embed_tokens() const { return embed_tokens_; }  // [vocab_size, H]
  const kernels::TensorView& norm() const { return norm_; }                  // [H]
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const std::optional<VisionWeights>& vision() const { return vision_; }  // as the config has one
  size_t num_bytes() const { return num_bytes_; }                         // of all views together

 private:
  class Builder;
  ModelWeights() = default;

  struct DeviceMemory;
  std::shared_ptr<DeviceMemory> device_memory_;  // one block with all tensors, or null
  std::optional<Checkpoint> checkpoint_;         // keeps the mappings alive
  WeightMemory memory_;
  kernels::TensorView embed_tokens_;
  kernels::TensorView norm_;
  std::vector<LayerWeights> layers_;
  std::optional<VisionWeights> vision_;
  size_t num_bytes_ = 0;
};

}  // namespace beryl::weights
