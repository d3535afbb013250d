// Attention of the vision tower: projections, norms and two-dimensional RoPE of patches, then dense
// attention within each picture.
//
// Order of a row's softmax: keys are taken from the first to the last patch of the picture in tiles
// of kKeyTile. Nothing else of a row's result depends on its picture's neighbours or on threads.
#pragma once

#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/cpu/linear.h"
#include "kernels/ops.h"

namespace beryl::kernels::cpu {

class PatchAttention {
 public:
  explicit PatchAttention(const Context& context)
      : context_(context), scratch_(static_cast<size_t>(context.pool.num_threads())) {}

  void compute_inputs(const PatchAttentionShape& shape, const AttentionWeights& weights,
                      const PackedRows& x, const PatchBatch& batch, const PatchQkv& out);
  void run(const PatchAttentionShape& shape, const PatchQkv& qkv, const PatchBatch& batch,
           const TensorView& out);

 private:
  struct Call;  // arguments of run()

  void finish_row(const PatchAttentionShape& shape, const AttentionWeights& weights,
                  const PatchQkv& out, int64_t row, const float* const (&angles)[2]) const;
  void run_item(const Call& call, int64_t first_patch, int64_t num_patches, int64_t item,
                Scratch& scratch) const;

  Context context_;
  Scratch angles_;                // [largest side of a grid, 2 * head_dim / 4] cosines, then sines
  std::vector<Scratch> scratch_;  // [num_threads]
};

}  // namespace beryl::kernels::cpu
