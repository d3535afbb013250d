#include "parallel/expert/route_table.h"

#include <algorithm>

#include "parallel/base/assert.h"
#include "parallel/expert/expert_exchange.h"

namespace beryl::expert {

RouteTable::RouteTable(const Placement& placement, int max_rows, int top_k, int rows_per_round)
    : placement_(placement),
      top_k_(top_k),
      rows_per_round_(rows_per_round),
      max_rounds_(
          static_cast<size_t>(std::max(1, (max_rows + rows_per_round - 1) / rows_per_round))),
      entries_(static_cast<size_t>(max_rows) * static_cast<size_t>(top_k)),
      entry_counts_(static_cast<size_t>(max_rows)),
      counts_(static_cast<size_t>(placement.num_ranks()) * max_rounds_) {
  ids_.reserve(static_cast<size_t>(top_k));
  weights_.reserve(static_cast<size_t>(top_k));
}

void RouteTable::build(const RoutedRows& rows, int num_rounds) {
  num_rows_ = static_cast<int>(rows.x.shape[0]);
  num_rounds_ = num_rounds;
  x_ = rows.x.f32();
  hidden_size_ = static_cast<size_t>(rows.x.shape[1]);
  std::fill(counts_.begin(), counts_.end(), 0);
  for (int row = 0; row < num_rows_; ++row) build_row(rows, row);
}

void RouteTable::build_row(const RoutedRows& rows, int row) {
  const size_t first = static_cast<size_t>(row) * static_cast<size_t>(top_k_);
  const int32_t* const ids = rows.topk_idx.as<const int32_t>() + first;
  const float* const weights = rows.topk_weights.f32() + first;
  Entry* const begin = entries_.data() + first;
  Entry* end = begin;
  for (int k = 0; k < top_k_; ++k) {
    if (ids[k] < 0) continue;
    BERYL_ASSERT(ids[k] < placement_.num_experts(), "expert {} of {}", ids[k],
                 placement_.num_experts());
    const ExpertCopy copy =
        placement_.choose_copy(ids[k], rows.request_seeds[row], rows.positions[row], rows.layer);
    *end++ = Entry{ids[k], copy.rank, weights[k]};
  }
  std::sort(begin, end, [](const Entry& a, const Entry& b) { return a.expert < b.expert; });
  entry_counts_[static_cast<size_t>(row)] = static_cast<int32_t>(end - begin);
  const auto round = static_cast<size_t>(row / rows_per_round_);
  const std::span<const Entry> used(begin, end);
  for (size_t i = 0; i < used.size(); ++i) {
    BERYL_ASSERT(i == 0 || used[i - 1].expert != used[i].expert, "row {} has expert {} twice", row,
                 used[i].expert);
    const auto same_rank = [&](const Entry& other) { return other.rank == used[i].rank; };
    if (std::none_of(begin, begin + i, same_rank)) {
      ++counts_[static_cast<size_t>(used[i].rank) * max_rounds_ + round];
    }
  }
}

RoundRows RouteTable::round_rows(int round) const {
  const int begin = std::min(num_rows_, round * rows_per_round_);
  return {begin, std::min(num_rows_, begin + rows_per_round_)};
}

int RouteTable::count(int peer, int round) const {
  return counts(peer)[static_cast<size_t>(round)];
}

std::span<const int32_t> RouteTable::counts(int peer) const {
  return {counts_.data() + static_cast<size_t>(peer) * max_rounds_,
          static_cast<size_t>(num_rounds_)};
}

std::span<const RouteTable::Entry> RouteTable::entries(int row) const {
  return {entries_.data() + static_cast<size_t>(row) * static_cast<size_t>(top_k_),
          static_cast<size_t>(entry_counts_[static_cast<size_t>(row)])};
}

void RouteTable::pack(int peer, int round, DispatchMessage& message,
                      std::vector<int32_t>& source_rows) {
  const RoundRows range = round_rows(round);
  for (int row = range.begin; row < range.end; ++row) {
    ids_.clear();
    weights_.clear();
    for (const Entry& entry : entries(row)) {
      if (entry.rank != peer) continue;
      ids_.push_back(entry.expert);
      weights_.push_back(entry.weight);
    }
    if (ids_.empty()) continue;
    message.append({ids_, weights_}, x_ + static_cast<size_t>(row) * hidden_size_);
    source_rows.push_back(row - range.begin);
  }
}

}  // namespace beryl::expert
