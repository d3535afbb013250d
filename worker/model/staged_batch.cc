#include "worker/model/staged_batch.h"

#include <algorithm>
#include <numeric>

namespace beryl::model {
namespace {

using kernels::BatchView;
using kernels::BlockTableView;

constexpr size_t kAlignment = 64 / sizeof(int32_t);

std::span<const int32_t> block_ids(const BlockTableView& table, int num_segments) {
  return {table.block_ids, static_cast<size_t>(table.offsets[num_segments])};
}

}  // namespace

StagedBatch::~StagedBatch() {
  if (device_ != nullptr) ops_.free(device_);
}

size_t StagedBatch::append(std::span<const int32_t> values) {
  const size_t begin = host_.size();
  host_.insert(host_.end(), values.begin(), values.end());
  host_.resize((host_.size() + kAlignment - 1) / kAlignment * kAlignment);
  return begin;
}

size_t StagedBatch::append_offsets(const BlockTableView& table, int num_segments,
                                   size_t num_before) {
  const size_t begin = append({table.offsets, static_cast<size_t>(num_segments) + 1});
  for (size_t i = 0; i <= static_cast<size_t>(num_segments); ++i) {
    host_[begin + i] += static_cast<int32_t>(num_before);
  }
  return begin;
}

void StagedBatch::grow(size_t size) {
  if (size <= device_size_) return;
  if (device_ != nullptr) ops_.free(device_);
  device_ = nullptr;
  device_size_ = std::max(size, 2 * device_size_);
  device_ = static_cast<int32_t*>(ops_.allocate(device_size_ * sizeof(int32_t)));
}

void StagedBatch::measure(const BatchView& rows, BatchView& staged) {
  const auto num_rows = static_cast<size_t>(rows.num_rows);
  const int32_t* const starts = rows.query_start_loc;
  row_segments_.resize(num_rows);
  staged.max_segment_rows = 0;
  for (int32_t s = 0; s < rows.num_segments; ++s) {
    std::fill(row_segments_.begin() + starts[s], row_segments_.begin() + starts[s + 1], s);
    staged.max_segment_rows = std::max(staged.max_segment_rows, starts[s + 1] - starts[s]);
  }
  const int32_t* const last_seen = rows.visible_end != nullptr ? rows.visible_end : rows.positions;
  staged.max_position = num_rows == 0 ? 0 : *std::max_element(last_seen, last_seen + num_rows);
}

BlockTableView StagedBatch::scaled(const BlockTableView& pages, int num_segments) {
  if (sliding_step_ == 1 || num_segments == 0) return pages;
  sliding_ids_.clear();
  for (const int32_t page : block_ids(pages, num_segments)) {
    sliding_ids_.push_back(page * sliding_step_);
  }
  BlockTableView table = pages;
  table.block_ids = sliding_ids_.data();
  return table;
}

StagedViews StagedBatch::stage(const int32_t* token_ids, const BatchView& batch,
                               std::span<const int32_t> logits_rows, int max_copied_rows) {
  BatchView rows = batch;
  rows.sliding_blocks = scaled(batch.sliding_blocks, batch.num_segments);
  const size_t num_leaves = std::max(logits_rows.size(), static_cast<size_t>(max_copied_rows));
  counting_.resize(num_leaves + 1);
  std::iota(counting_.begin(), counting_.end(), 0);
  zeros_.assign(num_leaves, 0);
  StagedViews views = {token_ids,
                       rows,
                       {.num_rows = static_cast<int>(logits_rows.size()),
                        .leaf_offsets = counting_.data(),
                        .leaf_rows = logits_rows.data(),
                        .leaf_keys = zeros_.data()},
                       {.num_rows = max_copied_rows,
                        .leaf_offsets = counting_.data(),
                        .leaf_rows = counting_.data(),
                        .leaf_keys = zeros_.data()}};
  if (ops_.memory_is_host()) return views;

  const auto num_rows = static_cast<size_t>(rows.num_rows);
  const auto num_segments = static_cast<size_t>(rows.num_segments);
  measure(rows, views.rows);

  host_.clear();
  const size_t tokens_at = append({token_ids, num_rows});
  const size_t positions_at = append({rows.positions, num_rows});
  const size_t starts_at = append({rows.query_start_loc, num_segments + 1});
  const size_t segments_at = append(row_segments_);
  const size_t visible_at = rows.visible_end != nullptr ? append({rows.visible_end, num_rows}) : 0;
  // Both tables' ids come last, as one array: offsets say where, so pointers do not move.
  const BlockTableView* const tables[2] = {&rows.global_blocks, &rows.sliding_blocks};
  size_t offsets_at[2];
  size_t first_at[2];
  size_t num_ids = 0;
  for (size_t i = 0; i < 2; ++i) {
    offsets_at[i] = append_offsets(*tables[i], rows.num_segments, num_ids);
    first_at[i] = append({tables[i]->first_block, num_segments});
    num_ids += block_ids(*tables[i], rows.num_segments).size();
  }
  const size_t counting_at = append(counting_);
  const size_t leaves_at = append(logits_rows);
  const size_t zeros_at = append(zeros_);
  const size_t ids_begin = host_.size();
  for (const BlockTableView* const table : tables) {
    const std::span<const int32_t> ids = block_ids(*table, rows.num_segments);
    host_.insert(host_.end(), ids.begin(), ids.end());
  }

  grow(host_.size());
  ops_.upload(device_, host_.data(), host_.size() * sizeof(int32_t));
  views.token_ids = device_ + tokens_at;
  views.rows.positions = device_ + positions_at;
  views.rows.query_start_loc = device_ + starts_at;
  views.rows.row_segments = device_ + segments_at;
  if (rows.visible_end != nullptr) views.rows.visible_end = device_ + visible_at;
  BlockTableView* const staged[2] = {&views.rows.global_blocks, &views.rows.sliding_blocks};
  for (size_t i = 0; i < 2; ++i) {
    staged[i]->block_ids = device_ + ids_begin;
    staged[i]->offsets = device_ + offsets_at[i];
    staged[i]->first_block = device_ + first_at[i];
  }
  views.selection.leaf_offsets = device_ + counting_at;
  views.selection.leaf_rows = device_ + leaves_at;
  views.selection.leaf_keys = device_ + zeros_at;
  views.selection.leaves_per_row = views.copy.leaves_per_row = 1;
  views.copy.leaf_offsets = views.copy.leaf_rows = device_ + counting_at;
  views.copy.leaf_keys = device_ + zeros_at;
  return views;
}

}  // namespace beryl::model
