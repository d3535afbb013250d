// Where the numbers of a position lie in the paged cache, and which positions a row sees.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"

namespace beryl::kernels::cpu {

class CacheLayout {
 public:
  CacheLayout(const AttentionShape& shape, const BatchView& batch, const KvCacheView& cache)
      : table_(shape.is_global() ? batch.global_blocks : batch.sliding_blocks),
        data_(cache.data.f32()),
        num_blocks_(cache.data.shape[0]),
        num_kv_heads_(shape.num_kv_heads),
        entry_stride_(shape.is_global() ? shape.cached_dim() : shape.head_dim),
        head_size_(int64_t{table_.block_size} * shape.cached_dim()),
        value_offset_(shape.is_global() ? 0 : int64_t{table_.block_size} * shape.head_dim) {
    BERYL_CHECK(batch.num_rows == 0 || table_.block_size > 0);
  }

  int block_size() const { return table_.block_size; }
  // From one position to the next of its block.
  int64_t entry_stride() const { return entry_stride_; }
  // From the numbers that scores are made of to the values.
  int64_t value_offset() const { return value_offset_; }

  // Sliding: K of the position. Global: V, then rotated K. The position's block must be listed.
  float* entry(int segment, int kv_head, int32_t position) const {
    const int32_t number = position / table_.block_size - table_.first_block[segment];
    const int32_t offset = table_.offsets[segment];
    BERYL_CHECK(number >= 0 && number < table_.offsets[segment + 1] - offset);
    const int64_t block = table_.block_ids[offset + number];
    BERYL_CHECK(block >= 0 && block < num_blocks_);
    const int32_t slot = position % table_.block_size;
    return data_ + (block * num_kv_heads_ + kv_head) * head_size_ + slot * entry_stride_;
  }

 private:
  const BlockTableView& table_;
  float* data_;
  int64_t num_blocks_;
  int64_t num_kv_heads_;
  int64_t entry_stride_;
  int64_t head_size_;
  int64_t value_offset_;
};

// Positions that row `row` of the batch sees, first and last included.
struct VisibleKeys {
  int32_t first;
  int32_t last;
};

inline VisibleKeys visible_keys(const AttentionShape& shape, const BatchView& batch, int row) {
  const int32_t position = batch.positions[row];
  if (shape.is_global()) return {0, position};
  return {std::max<int32_t>(0, position - shape.window + 1),
          batch.visible_end == nullptr ? position : batch.visible_end[row]};
}

}  // namespace beryl::kernels::cpu
