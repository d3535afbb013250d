// StagedBatch: the arrays of a DecoderBatch where the operations can read them. A back end on host
// memory reads the caller's; for a device all of them travel in one copy a step. There each array
// lies at an address that depends on the lengths of the others but not on those of block tables, so
// a step can be repeated while contexts grow.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace beryl::model {

// What the decoder's operations read of a batch.
struct StagedViews {
  const int32_t* token_ids = nullptr;  // [T]
  kernels::BatchView rows;
  kernels::TreeSumBatch selection;  // logits_rows as sums over one leaf each: a gather
  kernels::TreeSumBatch copy;       // rows 0, 1, ... likewise: a copy of the first num_rows rows
};

class StagedBatch {
 public:
  // Block ids of sliding layers are pages: kernels read page * sliding_step (page_layout.h).
  StagedBatch(kernels::Ops& ops, int sliding_step) : ops_(ops), sliding_step_(sliding_step) {}
  ~StagedBatch();
  StagedBatch(const StagedBatch&) = delete;
  StagedBatch& operator=(const StagedBatch&) = delete;

  // `token_ids`, the arrays of `rows` and `logits_rows` are host memory. The views live until the
  // next call and, on host memory, as long as the arguments.
  StagedViews stage(const int32_t* token_ids, const kernels::BatchView& rows,
                    std::span<const int32_t> logits_rows, int max_copied_rows);

  // Where the arrays of the last step begin; null on host memory.
  const void* memory() const { return device_; }

 private:
  kernels::BlockTableView scaled(const kernels::BlockTableView& pages, int num_segments);
  // Appends an array and returns where it will lie, in numbers from the start.
  size_t append(std::span<const int32_t> values);
  // Appends offsets of a table whose block ids follow `num_before` others.
  size_t append_offsets(const kernels::BlockTableView& table, int num_segments, size_t num_before);
  void grow(size_t size);
  // What only devices look at: the segment of each row, the longest one, the largest position.
  void measure(const kernels::BatchView& rows, kernels::BatchView& staged);

  kernels::Ops& ops_;
  const int32_t sliding_step_;
  std::vector<int32_t> sliding_ids_;
  std::vector<int32_t> host_;
  std::vector<int32_t> counting_;  // 0, 1, 2 ...
  std::vector<int32_t> zeros_;
  std::vector<int32_t> row_segments_;
  int32_t* device_ = nullptr;
  size_t device_size_ = 0;
};

}  // namespace beryl::model
