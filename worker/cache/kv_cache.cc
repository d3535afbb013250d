#include "worker/cache/kv_cache.h"

#include "parallel/base/assert.h"
#include "worker/model/attention_shape.h"

namespace beryl::cache {

using kernels::DType;
using kernels::TensorView;
using model::LayerKind;
using model::ModelConfig;

namespace {

TensorView layer_shape(const ModelConfig& config, LayerKind kind, const KvCacheSize& size,
                       DType dtype) {
  const kernels::AttentionShape shape = model::attention_shape(config, kind);
  if (kind == LayerKind::kGlobal) {
    return {nullptr,
            dtype,
            {size.num_global_blocks, shape.num_kv_heads, size.block_size, shape.cached_dim()}};
  }
  return {nullptr,
          dtype,
          {size.num_sliding_blocks, shape.num_kv_heads, 2, size.block_size, shape.head_dim}};
}

}  // namespace

size_t bytes_per_block(const ModelConfig& config, LayerKind kind, int block_size, DType dtype) {
  const TensorView one_layer = layer_shape(
      config, kind, {.block_size = block_size, .num_global_blocks = 1, .num_sliding_blocks = 1},
      dtype);
  return one_layer.num_bytes() * static_cast<size_t>(config.num_layers(kind));
}

KvCache::KvCache(const ModelConfig& config, const KvCacheSize& size, kernels::Ops& ops)
    : ops_(ops), size_(size) {
  BERYL_ASSERT(size.block_size >= 1 && size.block_size <= kMaxBlockSize, "block_size {}",
               size.block_size);
  BERYL_ASSERT(size.num_global_blocks >= 0 && size.num_sliding_blocks >= 0, "{} and {} blocks",
               size.num_global_blocks, size.num_sliding_blocks);
  for (const LayerKind kind : config.layer_kinds) {
    TensorView view = layer_shape(config, kind, size, ops.kv_dtype());
    view.data = ops.allocate(view.num_bytes());
    num_bytes_ += view.num_bytes();
    layers_.push_back({view});
  }
}

KvCache::~KvCache() {
  for (const kernels::KvCacheView& layer : layers_) ops_.free(layer.data.data);
}

}  // namespace beryl::cache
