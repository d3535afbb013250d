#include "worker/cache/kv_cache.h"

#include "parallel/base/assert.h"
#include "worker/model/attention_shape.h"

namespace beryl::cache {

using kernels::TensorView;
using model::LayerKind;

namespace {

// `run`: memory of the layer's group. `idx` counts the layers of the kind.
TensorView layer_view(const model::ModelConfig& config, LayerKind kind, int idx,
                      const KvCacheSize& size, const PageLayout& layout, kernels::DType dtype,
                      void* run) {
  const kernels::AttentionShape shape = model::attention_shape(config, kind);
  if (kind == LayerKind::kGlobal) {
    const int num_blocks = size.num_pages * layout.global_blocks;
    return {run, dtype, {num_blocks, shape.num_kv_heads, size.block_size, shape.cached_dim()}};
  }
  const size_t offset = static_cast<size_t>(idx % layout.sliding_layers) *
                        layer_block_bytes(config, kind, size.block_size, dtype);
  // Up to the block of the last page.
  const int num_blocks = size.num_pages == 0 ? 0 : (size.num_pages - 1) * layout.sliding_step + 1;
  return {static_cast<std::byte*>(run) + offset,
          dtype,
          {num_blocks, shape.num_kv_heads, 2, size.block_size, shape.head_dim}};
}

}  // namespace

KvCache::KvCache(const model::ModelConfig& config, const KvCacheSize& size, kernels::Ops& ops)
    : ops_(ops), size_(size) {
  BERYL_ASSERT(size.block_size >= 1 && size.block_size <= kMaxBlockSize, "block_size {}",
               size.block_size);
  BERYL_ASSERT(size.num_pages >= 0, "{} pages", size.num_pages);
  layout_ = page_layout(config, size.block_size, ops.kv_dtype());
  const size_t run_bytes = layout_.piece_bytes * static_cast<size_t>(size.num_pages);
  for (int group = 0; group < layout_.num_groups; ++group) {
    runs_.push_back(ops.allocate(run_bytes));
  }
  int num_global = 0;
  int num_sliding = 0;
  for (const LayerKind kind : config.layer_kinds) {
    const bool is_global = kind == LayerKind::kGlobal;
    const int idx = is_global ? num_global++ : num_sliding++;
    const int group = is_global ? idx : idx / layout_.sliding_layers;
    layers_.push_back({layer_view(config, kind, idx, size, layout_, ops.kv_dtype(),
                                  runs_[static_cast<size_t>(group)])});
  }
}

KvCache::~KvCache() {
  for (void* const run : runs_) ops_.free(run);
}

}  // namespace beryl::cache
