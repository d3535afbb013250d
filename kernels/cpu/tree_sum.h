// Sums along the binary tree over expert ids (TreeSumBatch).
#pragma once

#include <cstdint>

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace beryl::kernels::cpu {

// Row `row` of `out` [*, hidden] from the leaves in `in` [*, hidden].
void tree_sum_row(const KernelTable& kernels, const float* in, const TreeSumBatch& batch, int row,
                  const TensorView& out);

}  // namespace beryl::kernels::cpu
