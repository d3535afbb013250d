// Linear layers over threads: rows are packed once, output columns are split.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/context.h"

namespace beryl::kernels::cpu {

// Rows in the order that dot products read (kernel_table.h).
class PackedRows {
 public:
  // Packs x [num_rows, k].
  void pack(const Context& context, const float* x, int64_t num_rows, int64_t k);

  // Room for rows of k numbers that the caller fills.
  void resize(int64_t num_rows, int64_t k);

  int64_t num_rows() const { return static_cast<int64_t>(rows_.size()); }
  float* row(int64_t i) { return rows_[static_cast<size_t>(i)]; }
  const float* const* rows() const { return rows_.data(); }

 private:
  Scratch memory_;
  std::vector<float*> rows_;
};

struct LinearJob {
  const uint16_t* weight = nullptr;  // [num_cols, k]
  int64_t num_cols = 0;
  float* out = nullptr;  // [num_rows, num_cols]
};

// All jobs on the same rows, in one parallel region.
void run_linears(const Context& context, const PackedRows& x, int64_t k,
                 std::span<const LinearJob> jobs);

}  // namespace beryl::kernels::cpu
