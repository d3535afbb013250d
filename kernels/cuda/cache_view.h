// Where the numbers of a position lie in the paged bf16 cache: the device's form of what
// kernels/cpu/cache_layout.h says for the CPU.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "kernels/random.h"

namespace beryl::kernels::cuda {

struct CacheView {
  uint16_t* data = nullptr;
  const int32_t* block_ids = nullptr;
  const int32_t* offsets = nullptr;
  const int32_t* first_block = nullptr;
  int block_size = 1;
  int num_kv_heads = 0;
  int entry_stride = 0;      // from one position to the next of its block
  int64_t head_stride = 0;   // from one KV head to the next
  int64_t value_offset = 0;  // from what scores are made of to the values
  int64_t num_rows = 0;      // of entry_stride numbers in all

  // Block ids of a segment, by block number; not all numbers are listed.
  BERYL_HOST_DEVICE const int32_t* table(int segment) const {
    return block_ids + (offsets[segment] - first_block[segment]);
  }

  // Sliding: K of the position. Global: V, then rotated K. The position's block must be listed.
  BERYL_HOST_DEVICE uint16_t* entry(int segment, int kv_head, int position) const {
    return entry(table(segment), kv_head, position);
  }
  BERYL_HOST_DEVICE uint16_t* entry(const int32_t* table, int kv_head, int position) const {
    const int number = position / block_size;
    const int slot = position - number * block_size;
    const int64_t block = table[number];
    return data + (block * num_kv_heads + kv_head) * head_stride + int64_t{slot} * entry_stride;
  }

  // As rows of entry_stride numbers: the entry, with part 1 its V on sliding layers.
  BERYL_HOST_DEVICE int row(const int32_t* table, int kv_head, int position, int part) const {
    const int number = position / block_size;
    const int slot = position - number * block_size;
    const int parts = value_offset == 0 ? 1 : 2;
    return ((table[number] * num_kv_heads + kv_head) * parts + part) * block_size + slot;
  }
};

inline CacheView cache_view(const AttentionShape& shape, const BatchView& batch,
                            const KvCacheView& cache) {
  const BlockTableView& table = shape.is_global() ? batch.global_blocks : batch.sliding_blocks;
  BERYL_CHECK(cache.data.dtype == DType::kBFloat16);
  BERYL_CHECK(batch.num_rows == 0 || table.block_size > 0);
  CacheView view;
  view.data = cache.data.as<uint16_t>();
  view.block_ids = table.block_ids;
  view.offsets = table.offsets;
  view.first_block = table.first_block;
  view.block_size = table.block_size;
  view.num_kv_heads = shape.num_kv_heads;
  view.entry_stride = shape.is_global() ? shape.cached_dim() : shape.head_dim;
  view.head_stride = int64_t{table.block_size} * shape.cached_dim();
  view.value_offset = shape.is_global() ? 0 : int64_t{table.block_size} * shape.head_dim;
  view.num_rows = cache.data.num_elements() / view.entry_stride;
  return view;
}

}  // namespace beryl::kernels::cuda
