#include "kernels/cpu/tree_sum.h"

#include <algorithm>
#include <bit>

namespace beryl::kernels::cpu {
namespace {

constexpr int kMaxDepth = 33;        // open nodes: their highest differing bits decrease
constexpr int64_t kChunkCols = 256;  // columns summed at a time

// Leaves come in key order; a node is closed as soon as the next leaf lies outside of it.
class TreeSum {
 public:
  TreeSum(const KernelTable& kernels, int num_cols) : kernels_(kernels), num_cols_(num_cols) {}

  void push(const float* leaf, int32_t key) {
    if (depth_ > 0) {
      const uint32_t differing = static_cast<uint32_t>(key ^ last_key_);
      const uint32_t border = std::bit_floor(differing);
      while (depth_ > 1 && borders_[depth_ - 2] < border) join();
      borders_[depth_ - 1] = border;
    }
    BERYL_CHECK(depth_ < kMaxDepth);
    open_[depth_++] = leaf;
    last_key_ = key;
  }

  // The sum of all leaves; null without any.
  const float* finish() {
    if (depth_ == 0) return nullptr;
    while (depth_ > 1) join();
    return open_[0];
  }

 private:
  void join() {
    float* sum = sums_[depth_ - 2];
    kernels_.add_rows(open_[depth_ - 2], open_[depth_ - 1], num_cols_, sum);
    open_[--depth_ - 1] = sum;
  }

  const KernelTable& kernels_;
  int num_cols_;
  int depth_ = 0;
  int32_t last_key_ = 0;
  const float* open_[kMaxDepth];
  uint32_t borders_[kMaxDepth];  // highest differing bit of open nodes n and n + 1
  alignas(64) float sums_[kMaxDepth][kChunkCols];
};

}  // namespace

void tree_sum_row(const KernelTable& kernels, const float* in, const TreeSumBatch& batch, int row,
                  const TensorView& out) {
  const int64_t hidden = out.shape[1];
  float* to = out.f32() + row * hidden;
  const int32_t begin = batch.leaf_offsets[row];
  const int32_t end = batch.leaf_offsets[row + 1];
  for (int64_t col = 0; col < hidden; col += kChunkCols) {
    const int64_t num_cols = std::min(kChunkCols, hidden - col);
    TreeSum sum(kernels, static_cast<int>(num_cols));
    for (int32_t leaf = begin; leaf < end; ++leaf) {
      if (batch.leaf_rows[leaf] < 0) continue;
      sum.push(in + batch.leaf_rows[leaf] * hidden + col, batch.leaf_keys[leaf]);
    }
    const float* total = sum.finish();
    if (total == nullptr) {
      std::fill(to + col, to + col + num_cols, 0.0f);
    } else {
      std::copy(total, total + num_cols, to + col);
    }
  }
}

}  // namespace beryl::kernels::cpu
