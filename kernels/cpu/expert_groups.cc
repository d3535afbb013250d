#include "kernels/cpu/expert_groups.h"

#include <algorithm>
#include <vector>

namespace beryl::kernels::cpu {

void group_by_expert(const TensorView& topk_idx, const TensorView& topk_weights,
                     const int32_t* slot_of, const ExpertGroups& groups) {
  const int64_t num_rows = topk_idx.shape[0];
  const int64_t top_k = topk_idx.shape[1];
  const int64_t num_entries = num_rows * top_k;
  const auto* ids = topk_idx.as<const int32_t>();
  const auto slot = [&](int64_t i) { return ids[i] < 0 ? -1 : slot_of[ids[i]]; };
  int32_t* offsets = groups.expert_offsets;
  std::fill(offsets, offsets + groups.num_local_experts + 1, 0);
  for (int64_t i = 0; i < num_entries; ++i) {
    if (slot(i) >= 0) ++offsets[slot(i) + 1];
  }
  for (int e = 0; e < groups.num_local_experts; ++e) {
    groups.load[e] += offsets[e + 1];
    offsets[e + 1] += offsets[e];
  }
  std::vector<int32_t> next(offsets, offsets + groups.num_local_experts);
  std::vector<int32_t> entries(static_cast<size_t>(top_k));
  std::vector<int32_t> place(static_cast<size_t>(num_entries), -1);
  for (int64_t i = 0; i < num_entries; ++i) {
    if (slot(i) < 0) continue;
    const int32_t to = next[static_cast<size_t>(slot(i))]++;
    place[static_cast<size_t>(i)] = to;
    groups.row_idx[to] = static_cast<int32_t>(i / top_k);
    groups.weight[to] = topk_weights.f32()[i];
  }
  groups.leaf_offsets[0] = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    entries.clear();
    for (int64_t i = row * top_k; i < (row + 1) * top_k; ++i) {
      if (slot(i) >= 0) entries.push_back(static_cast<int32_t>(i));
    }
    std::sort(entries.begin(), entries.end(),
              [&](int32_t a, int32_t b) { return ids[a] < ids[b]; });
    for (int64_t k = 0; k < top_k; ++k) {
      const bool is_leaf = k < static_cast<int64_t>(entries.size());
      const int32_t entry = is_leaf ? entries[static_cast<size_t>(k)] : 0;
      groups.leaf_rows[row * top_k + k] = is_leaf ? place[static_cast<size_t>(entry)] : -1;
      groups.leaf_keys[row * top_k + k] = is_leaf ? ids[entry] : 0;
    }
    groups.leaf_offsets[row + 1] = static_cast<int32_t>((row + 1) * top_k);
  }
}

}  // namespace beryl::kernels::cpu
