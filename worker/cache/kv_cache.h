// KvCache: the bytes of the KV cache of one rank. Which page belongs to whom, and as what, is the
// scheduler's business; page_layout.h says how a page is cut.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/ops.h"
#include "worker/cache/page_layout.h"
#include "worker/model/model_config.h"

namespace beryl::cache {

struct KvCacheSize {
  int block_size = 0;  // positions per block
  int num_pages = 0;
};

constexpr int kMaxBlockSize = 4096;

class KvCache {
 public:
  // `ops` owns the memory and must outlive the cache. Layouts are those of kernels::KvCacheView.
  KvCache(const model::ModelConfig& config, const KvCacheSize& size, kernels::Ops& ops);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const kernels::KvCacheView& layer(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  const KvCacheSize& size() const { return size_; }
  const PageLayout& layout() const { return layout_; }
  size_t num_bytes() const { return layout_.page_bytes() * static_cast<size_t>(size_.num_pages); }

 private:
  kernels::Ops& ops_;
  KvCacheSize size_;
  PageLayout layout_;
  std::vector<void*> runs_;  // [num_groups]
  std::vector<kernels::KvCacheView> layers_;
};

}  // namespace beryl::cache
