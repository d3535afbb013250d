#include "worker/cache/page_layout.h"

#include <algorithm>
#include <numeric>

#include "worker/model/attention_shape.h"

namespace beryl::cache {

using model::LayerKind;

size_t layer_block_bytes(const model::ModelConfig& config, LayerKind kind, int block_size,
                         kernels::DType dtype) {
  const kernels::AttentionShape shape = model::attention_shape(config, kind);
  const kernels::TensorView block = {
      nullptr, dtype, {shape.num_kv_heads, block_size, shape.cached_dim()}};
  return block.num_bytes();
}

PageLayout page_layout(const model::ModelConfig& config, int block_size, kernels::DType dtype) {
  const size_t global = layer_block_bytes(config, LayerKind::kGlobal, block_size, dtype);
  const size_t sliding = layer_block_bytes(config, LayerKind::kSliding, block_size, dtype);
  const int num_sliding = config.num_layers(LayerKind::kSliding);
  PageLayout layout;
  layout.num_groups = std::max(1, config.num_layers(LayerKind::kGlobal));
  layout.sliding_layers = (num_sliding + layout.num_groups - 1) / layout.num_groups;
  // In the published model both are equal: 5 sliding layers of 131,072 bytes (bf16, blocks of 16)
  // are 16 blocks of 40,960 of a global layer.
  const size_t unit = std::lcm(global, sliding);
  const size_t needed = static_cast<size_t>(layout.sliding_layers) * sliding;
  layout.piece_bytes = std::max<size_t>(1, (needed + unit - 1) / unit) * unit;
  layout.global_blocks = static_cast<int>(layout.piece_bytes / global);
  layout.sliding_step = static_cast<int>(layout.piece_bytes / sliding);
  return layout;
}

}  // namespace beryl::cache
