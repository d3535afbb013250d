// Index work of a round, apart from the rows themselves: which received row goes to which local
// expert, and the leaves of the two tree sums (at the experts' rank and at the source).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "parallel/expert/combine_layout.h"
#include "parallel/expert/dispatch_message.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

// Owns the arrays of a kernels::TreeSumBatch.
class SumPlan {
 public:
  void reserve(int max_rows, int max_leaves);

  // Rows of the batch are appended one by one, leaves of a row ascending by key.
  void clear();
  void add_leaf(int32_t row, int32_t key);
  void end_row();

  // Groups rows that came back by the source row they belong to: dispatched row i is source row
  // source_rows[i] < num_rows. Returned row j is leaf j.
  void build(std::span<const CombineRow> returned, std::span<const int32_t> source_rows,
             int num_rows);

  kernels::TreeSumBatch batch() const;

 private:
  std::vector<int32_t> offsets_;
  std::vector<int32_t> rows_;
  std::vector<int32_t> keys_;
  std::vector<int32_t> ends_;  // build(): leaves placed so far
};

// The grouped FFN of one round on the rank of the experts.
class ExpertPlan {
 public:
  ExpertPlan(const Placement& placement, int rank, int max_rows, int top_k);

  // messages[peer] of all peers. Fails with kInternal if one is no message for this rank.
  base::Status build(std::span<const DispatchMessage> messages);

  int num_rows() const { return num_rows_; }
  kernels::ExpertBatch batch() const;
  // Fills `plan` with the sums that make the rows of `layout` out of the assignments' results.
  void plan_sums(const CombineLayout& layout, SumPlan& plan) const;

 private:
  base::Status count(const DispatchMessage& message, size_t peer);
  void place(const DispatchMessage& message);

  std::vector<int32_t> slot_of_;  // [num_experts], kNotHere = on other ranks
  size_t top_k_;
  int num_rows_ = 0;
  std::vector<int32_t> offsets_;     // [num_local_experts + 1]
  std::vector<int32_t> next_;        // [num_local_experts]
  std::vector<int32_t> row_idx_;     // [A]
  std::vector<float> weights_;       // [A]
  std::vector<int32_t> assignment_;  // [R, top_k] place in row_idx_ of each entry of a route
  std::vector<int32_t> ids_;         // [R, top_k] expert of each entry
};

}  // namespace beryl::expert
