#include "parallel/expert/local_experts.h"

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::expert {
namespace {

using kernels::DType;
using kernels::TensorView;

enum IntArray { kExpertOffsets, kRowIdx, kLeafOffsets, kLeafRows, kLeafKeys, kNumIntArrays };

constexpr size_t kAlignment = 64 / sizeof(int32_t);

size_t num_entries(const ExchangeLimits& limits) {
  return static_cast<size_t>(std::max(1, limits.max_rows)) * static_cast<size_t>(limits.top_k);
}

// Room for the longest of the integer arrays.
size_t stride_of(const ExchangeLimits& limits, int num_slots) {
  const size_t longest = std::max(num_entries(limits), static_cast<size_t>(num_slots)) + 1;
  return (longest + kAlignment - 1) / kAlignment * kAlignment;
}

ExchangeLimits limits_of_pass(ExchangeLimits limits, int max_pass_rows) {
  limits.max_rows = std::clamp(limits.max_rows, 1, max_pass_rows);
  return limits;
}

std::vector<int32_t> slots_of(const Placement& placement) {
  std::vector<int32_t> slots(static_cast<size_t>(placement.num_experts()), -1);
  const auto local = placement.local_experts(0);
  for (size_t slot = 0; slot < local.size(); ++slot) {
    slots[static_cast<size_t>(local[slot])] = static_cast<int32_t>(slot);
  }
  return slots;
}

}  // namespace

LocalExperts::LocalExperts(kernels::Ops& ops, const Placement& placement,
                           const ExchangeLimits& limits, int max_pass_rows)
    : ops_(ops),
      limits_(limits_of_pass(limits, max_pass_rows)),
      num_experts_(placement.num_experts()),
      num_slots_(static_cast<int>(placement.local_experts(0).size())),
      slot_of_(slots_of(placement)),
      ints_stride_(stride_of(limits_, num_slots_)),
      slots_(ops, slot_of_.size() * sizeof(int32_t)),
      ints_(ops, kNumIntArrays * ints_stride_ * sizeof(int32_t)),
      weights_(ops, num_entries(limits_) * sizeof(float)),
      counts_(ops, static_cast<size_t>(num_slots_) * sizeof(int64_t)),
      results_(ops,
               num_entries(limits_) * static_cast<size_t>(limits.hidden_size) * sizeof(float)) {
  BERYL_ASSERT(placement.num_ranks() == 1, "placement of {} ranks", placement.num_ranks());
  ops.upload(slots_.bytes(), slot_of_.data(), slot_of_.size() * sizeof(int32_t));
}

int32_t* LocalExperts::ints(int array) const {
  return reinterpret_cast<int32_t*>(ints_.bytes()) + static_cast<size_t>(array) * ints_stride_;
}

kernels::ExpertGroups LocalExperts::groups() const {
  return {.num_local_experts = num_slots_,
          .expert_offsets = ints(kExpertOffsets),
          .row_idx = ints(kRowIdx),
          .weight = weights_.f32(),
          .leaf_offsets = ints(kLeafOffsets),
          .leaf_rows = ints(kLeafRows),
          .leaf_keys = ints(kLeafKeys),
          .load = reinterpret_cast<int64_t*>(counts_.bytes())};
}

const int32_t* LocalExperts::slot_of_experts() const {
  return reinterpret_cast<const int32_t*>(slots_.bytes());
}

std::optional<LocalGroups> LocalExperts::groups_of(int num_rows) const {
  if (num_rows > limits_.max_rows) return std::nullopt;
  return LocalGroups{slot_of_experts(), groups()};
}

size_t LocalExperts::num_bytes(int num_experts, const ExchangeLimits& limits, int max_pass_rows) {
  const ExchangeLimits pass = limits_of_pass(limits, max_pass_rows);
  const size_t ids = static_cast<size_t>(num_experts) * (sizeof(int32_t) + sizeof(int64_t));
  const size_t ints = kNumIntArrays * stride_of(pass, num_experts) * sizeof(int32_t);
  const size_t row = (1 + static_cast<size_t>(limits.hidden_size)) * sizeof(float);
  return ids + ints + num_entries(pass) * row;
}

void LocalExperts::run(const RoutedRows& rows, const ExpertExchange::ExpertFunction& experts,
                       const ExpertExchange::SumFunction& sum) {
  const int64_t num_rows = rows.x.shape[0];
  BERYL_ASSERT(!rows.is_grouped || num_rows <= limits_.max_rows, "{} grouped rows", num_rows);
  for (int64_t begin = 0; begin < num_rows; begin += limits_.max_rows) {
    const int64_t count = std::min<int64_t>(limits_.max_rows, num_rows - begin);
    RoutedRows pass = rows;
    pass.x = rows.x.rows(begin, count);
    pass.topk_idx = rows.topk_idx.rows(begin, count);
    pass.topk_weights = rows.topk_weights.rows(begin, count);
    run_pass(pass, experts, sum, begin);
  }
}

void LocalExperts::run_pass(const RoutedRows& rows, const ExpertExchange::ExpertFunction& experts,
                            const ExpertExchange::SumFunction& sum, int64_t first_row) {
  const auto num_rows = static_cast<int>(rows.x.shape[0]);
  const kernels::ExpertGroups groups = this->groups();
  if (!rows.is_grouped) {
    ops_.group_by_expert(rows.topk_idx, rows.topk_weights, slot_of_experts(), groups);
  }
  const int count = num_rows * limits_.top_k;
  const TensorView results(results_.bytes(), DType::kFloat32, {count, limits_.hidden_size});
  experts(ReceivedRows{rows.x,
                       {.num_assignments = count,
                        .expert_offsets = groups.expert_offsets,
                        .row_idx = groups.row_idx,
                        .weight = groups.weight}},
          results);
  sum(results,
      {.num_rows = num_rows,
       .leaf_offsets = groups.leaf_offsets,
       .leaf_rows = groups.leaf_rows,
       .leaf_keys = groups.leaf_keys,
       .leaves_per_row = limits_.top_k},
      first_row);
}

std::vector<uint64_t> LocalExperts::load() const {
  std::vector<int64_t> counts(static_cast<size_t>(num_slots_));
  ops_.download(counts.data(), counts_.bytes(), counts.size() * sizeof(int64_t));
  std::vector<uint64_t> load(static_cast<size_t>(num_experts_));
  for (size_t expert = 0; expert < load.size(); ++expert) {
    const int32_t slot = slot_of_[expert];
    if (slot >= 0) load[expert] = static_cast<uint64_t>(counts[static_cast<size_t>(slot)]);
  }
  return load;
}

}  // namespace beryl::expert
