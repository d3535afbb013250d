#include "kernels/cpu/router.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/check.h"

namespace beryl::kernels::cpu {

void choose_experts(const RouterRow& row) {
  BERYL_CHECK(row.top_k >= 1 && row.top_k <= row.num_experts);
  std::vector<float> p(row.scores, row.scores + row.num_experts);
  const float top = *std::max_element(p.begin(), p.end());
  float total = 0;
  for (float& value : p) total += value = std::exp(value - top);
  for (float& value : p) value /= total;
  std::vector<int32_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  // A NaN compares equal to everything, which would be no order at all: it sorts last.
  const auto rank = [&](int32_t e) {
    const float value = p[static_cast<size_t>(e)];
    return std::isnan(value) ? -1.0f : value;
  };
  std::partial_sort(
      order.begin(), order.begin() + row.top_k, order.end(),
      [&](int32_t a, int32_t b) { return rank(a) != rank(b) ? rank(a) > rank(b) : a < b; });
  float chosen = 0;
  for (int i = 0; i < row.top_k; ++i) {
    chosen += p[static_cast<size_t>(order[static_cast<size_t>(i)])];
  }
  for (int i = 0; i < row.top_k; ++i) {
    const int32_t e = order[static_cast<size_t>(i)];
    const float scale = std::bit_cast<float>(uint32_t{row.per_expert_scale[e]} << 16);
    row.topk_idx[i] = e;
    row.topk_weights[i] = p[static_cast<size_t>(e)] / chosen * scale;
  }
}

}  // namespace beryl::kernels::cpu
