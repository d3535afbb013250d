// KvCache: the bytes of both KV pools of one rank. Which block belongs to whom is the scheduler's
// business; block 0 .. num_blocks - 1 of a pool exist on every layer of its kind.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/ops.h"
#include "worker/model/model_config.h"

namespace beryl::cache {

struct KvCacheSize {
  int block_size = 0;          // positions per block
  int num_global_blocks = 0;   // each covers all global layers
  int num_sliding_blocks = 0;  // each covers all sliding layers
};

constexpr int kMaxBlockSize = 4096;

// Bytes of one block over all layers of its kind; dtype as Ops::kv_dtype().
size_t bytes_per_block(const model::ModelConfig& config, model::LayerKind kind, int block_size,
                       kernels::DType dtype);

class KvCache {
 public:
  // `ops` owns the memory and must outlive the cache. Layouts are those of kernels::KvCacheView.
  KvCache(const model::ModelConfig& config, const KvCacheSize& size, kernels::Ops& ops);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const kernels::KvCacheView& layer(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  const KvCacheSize& size() const { return size_; }
  size_t num_bytes() const { return num_bytes_; }

 private:
  kernels::Ops& ops_;
  KvCacheSize size_;
  size_t num_bytes_ = 0;
  std::vector<kernels::KvCacheView> layers_;
};

}  // namespace beryl::cache
