#include "parallel/expert/expert_plan.h"

#include <algorithm>
#include <numeric>

#include "parallel/base/assert.h"

namespace beryl::expert {
namespace {

constexpr int32_t kNotHere = -1;

base::Error bad_message(size_t peer, const char* what) {
  return base::Error{
      base::ErrorCode::kInternal, fmt::format("expert rows from rank {}: {}", peer, what), {}, {}};
}

}  // namespace

void SumPlan::reserve(int max_rows, int max_leaves) {
  offsets_.reserve(static_cast<size_t>(max_rows) + 1);
  rows_.reserve(static_cast<size_t>(max_leaves));
  keys_.reserve(static_cast<size_t>(max_leaves));
  ends_.reserve(static_cast<size_t>(max_rows));
}

void SumPlan::clear() {
  offsets_.assign(1, 0);
  rows_.clear();
  keys_.clear();
}

void SumPlan::add_leaf(int32_t row, int32_t key) {
  rows_.push_back(row);
  keys_.push_back(key);
}

void SumPlan::end_row() {
  offsets_.push_back(static_cast<int32_t>(rows_.size()));
}

void SumPlan::build(std::span<const CombineRow> returned, std::span<const int32_t> source_rows,
                    int num_rows) {
  const auto source = [&](const CombineRow& row) {
    return static_cast<size_t>(source_rows[static_cast<size_t>(row.row)]);
  };
  offsets_.assign(static_cast<size_t>(num_rows) + 1, 0);
  for (const CombineRow& row : returned) ++offsets_[source(row) + 1];
  std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
  ends_.assign(offsets_.begin(), offsets_.end() - 1);
  rows_.resize(returned.size());
  keys_.resize(returned.size());
  for (size_t j = 0; j < returned.size(); ++j) {
    const size_t row = source(returned[j]);
    const auto begin = static_cast<size_t>(offsets_[row]);
    auto at = static_cast<size_t>(ends_[row]++);
    for (; at > begin && keys_[at - 1] > returned[j].key; --at) {  // at most top_k leaves
      keys_[at] = keys_[at - 1];
      rows_[at] = rows_[at - 1];
    }
    keys_[at] = returned[j].key;
    rows_[at] = static_cast<int32_t>(j);
  }
}

kernels::TreeSumBatch SumPlan::batch() const {
  return {static_cast<int>(offsets_.size()) - 1, offsets_.data(), rows_.data(), keys_.data()};
}

ExpertPlan::ExpertPlan(const Placement& placement, int rank, int max_rows, int top_k)
    : slot_of_(static_cast<size_t>(placement.num_experts()), kNotHere),
      top_k_(static_cast<size_t>(top_k)) {
  const std::span<const int32_t> local = placement.local_experts(rank);
  for (size_t slot = 0; slot < local.size(); ++slot) {
    slot_of_[static_cast<size_t>(local[slot])] = static_cast<int32_t>(slot);
  }
  const size_t max_entries = static_cast<size_t>(max_rows) * top_k_;
  offsets_.resize(local.size() + 1);
  next_.resize(local.size());
  row_idx_.resize(max_entries);
  weights_.resize(max_entries);
  assignment_.resize(max_entries);
  ids_.resize(max_entries);
}

base::Status ExpertPlan::build(std::span<const DispatchMessage> messages) {
  std::fill(offsets_.begin(), offsets_.end(), 0);
  for (size_t peer = 0; peer < messages.size(); ++peer) {
    if (base::Status status = count(messages[peer], peer); !status) return status;
  }
  std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
  std::copy(offsets_.begin(), offsets_.end() - 1, next_.begin());
  num_rows_ = 0;
  for (const DispatchMessage& message : messages) place(message);
  return base::Status::ok();
}

base::Status ExpertPlan::count(const DispatchMessage& message, size_t peer) {
  if (!message.valid()) return bad_message(peer, "wrong size or count");
  for (int i = 0; i < message.count(); ++i) {
    int32_t previous = -1;
    for (const int32_t id : message.route(i).ids) {
      const bool is_here = id > previous && id < static_cast<int32_t>(slot_of_.size()) &&
                           slot_of_[static_cast<size_t>(id)] != kNotHere;
      if (!is_here) return bad_message(peer, "experts that are not here, or out of order");
      previous = id;
      ++offsets_[static_cast<size_t>(slot_of_[static_cast<size_t>(id)]) + 1];
    }
  }
  return base::Status::ok();
}

void ExpertPlan::place(const DispatchMessage& message) {
  for (int i = 0; i < message.count(); ++i, ++num_rows_) {
    const RowRoute route = message.route(i);
    const size_t first_entry = static_cast<size_t>(num_rows_) * top_k_;
    for (size_t entry = 0; entry < route.ids.size(); ++entry) {
      const auto slot = static_cast<size_t>(slot_of_[static_cast<size_t>(route.ids[entry])]);
      const int32_t assignment = next_[slot]++;
      row_idx_[static_cast<size_t>(assignment)] = num_rows_;
      weights_[static_cast<size_t>(assignment)] = route.weights[entry];
      assignment_[first_entry + entry] = assignment;
      ids_[first_entry + entry] = route.ids[entry];
    }
  }
}

kernels::ExpertBatch ExpertPlan::batch() const {
  return {offsets_.back(), offsets_.data(), row_idx_.data(), weights_.data()};
}

void ExpertPlan::plan_sums(const CombineLayout& layout, SumPlan& plan) const {
  plan.clear();
  for (const CombineRow& row : layout.rows()) {
    for (int32_t entry = row.begin; entry < row.end; ++entry) {
      const size_t at = static_cast<size_t>(row.row) * top_k_ + static_cast<size_t>(entry);
      plan.add_leaf(assignment_[at], ids_[at]);
    }
    plan.end_row();
  }
}

}  // namespace beryl::expert
