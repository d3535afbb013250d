// Patches of pictures: cutting, position embeddings, pooling. Division of work: rows of the result.
#pragma once

#include <vector>

#include "kernels/cpu/context.h"
#include "kernels/ops.h"

namespace beryl::kernels::cpu {

class Patches {
 public:
  explicit Patches(const Context& context) : context_(context) {}

  void cut(const ImageView* images, int num_images, int patch_size, const TensorView& out);
  void add_positions(const TensorView& table, const PatchBatch& batch, const TensorView& x);
  void pool(const PatchPooling& pooling, const TensorView& x, const PatchBatch& batch,
            const TensorView& out);

 private:
  Context context_;
};

}  // namespace beryl::kernels::cpu
