#include "tests/parallel/expert/scalar_ops.h"

#include <bit>
#include <vector>

namespace beryl::expert {
namespace {

struct Leaf {
  int32_t row;
  int32_t key;
};

// Sum of leaves [begin, end), ascending by key, split where the highest bit that differs turns.
std::vector<float> sum_leaves(const std::vector<Leaf>& leaves, size_t begin, size_t end,
                              const float* in, size_t width) {
  if (end - begin == 1) {
    const float* const row = in + static_cast<size_t>(leaves[begin].row) * width;
    return {row, row + width};
  }
  const auto difference = static_cast<uint32_t>(leaves[begin].key ^ leaves[end - 1].key);
  const int bit = std::bit_width(difference) - 1;
  size_t middle = begin;
  while (((leaves[middle].key >> bit) & 1) == 0) ++middle;
  std::vector<float> left = sum_leaves(leaves, begin, middle, in, width);
  const std::vector<float> right = sum_leaves(leaves, middle, end, in, width);
  for (size_t i = 0; i < width; ++i) left[i] += right[i];
  return left;
}

}  // namespace

void ScalarOps::tree_sum(const TensorView& in, const kernels::TreeSumBatch& batch,
                         const TensorView& out) {
  const auto width = static_cast<size_t>(out.shape[1]);
  for (int row = 0; row < batch.num_rows; ++row) {
    std::vector<Leaf> leaves;
    for (int i = batch.leaf_offsets[row]; i < batch.leaf_offsets[row + 1]; ++i) {
      leaves.push_back({batch.leaf_rows[i], batch.leaf_keys[i]});
    }
    std::vector<float> sum(width);
    if (!leaves.empty()) sum = sum_leaves(leaves, 0, leaves.size(), in.f32(), width);
    std::memcpy(out.f32() + static_cast<size_t>(row) * width, sum.data(), width * sizeof(float));
  }
}

void run_made_up_expert(int expert, const float* x, float weight, int hidden_size, float* out) {
  float mean = 0;
  for (int i = 0; i < hidden_size; ++i) mean += x[i] / static_cast<float>(hidden_size);
  const float shift = 0.37F * static_cast<float>(expert % 19) - 3.1F;
  for (int i = 0; i < hidden_size; ++i) {
    const float value = x[i] * shift + mean * static_cast<float>((expert * 7 + i) % 11);
    out[i] = weight * (value / (1.0F + value * value));
  }
}

}  // namespace beryl::expert
