// Queries, keys and values of this step's rows: projections, norms, RoPE, cache writes.
#pragma once

#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/cpu/linear.h"
#include "kernels/ops.h"

namespace beryl::kernels::cpu {

class AttentionInputs {
 public:
  explicit AttentionInputs(const Context& context) : context_(context) {}

  void run(const AttentionShape& shape, const AttentionWeights& weights, const PackedRows& x,
           const BatchView& batch, const KvCacheView& cache, float* q);

 private:
  struct Call;

  void project(const Call& call, const PackedRows& x);
  void finish_row(const Call& call, int row, int segment, float* angles) const;
  void finish_key(const Call& call, const float* angles, const float* key, float* entry) const;

  Context context_;
  Scratch projected_;          // k [T, num_kv_heads * head_dim], then v on sliding layers
  std::vector<int> segments_;  // [T] segment of each row
};

}  // namespace beryl::kernels::cpu
