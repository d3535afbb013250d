#include "parallel/expert/combine_layout.h"

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::expert {
namespace {

constexpr int32_t kSeveralRanks = -1;

// The only rank that holds experts [begin, end), or kSeveralRanks.
int32_t sole_rank(const Placement& placement, int32_t begin, int32_t end) {
  const int32_t rank = placement.copies(begin)[0].rank;
  for (int32_t expert = begin; expert < end; ++expert) {
    const std::span<const ExpertCopy> copies = placement.copies(expert);
    if (copies.size() != 1 || copies[0].rank != rank) return kSeveralRanks;
  }
  return rank;
}

}  // namespace

std::vector<int32_t> sum_nodes(const Placement& placement) {
  const int32_t num_experts = placement.num_experts();
  std::vector<int32_t> nodes(static_cast<size_t>(num_experts));
  for (int32_t expert = 0; expert < num_experts; ++expert) {
    int32_t key = expert;
    for (int32_t width = 2; width / 2 < num_experts; width *= 2) {
      const int32_t begin = expert / width * width;
      const int32_t end = std::min(begin + width, num_experts);
      if (sole_rank(placement, begin, end) == kSeveralRanks) break;
      key = begin;
    }
    nodes[static_cast<size_t>(expert)] = key;
  }
  return nodes;
}

CombineLayout::CombineLayout(std::span<const int32_t> nodes, int num_peers, int max_rows, int top_k)
    : nodes_(nodes), byte_offsets_(static_cast<size_t>(num_peers) + 1) {
  rows_.reserve(static_cast<size_t>(max_rows) * static_cast<size_t>(top_k));
  peer_ends_.reserve(static_cast<size_t>(num_peers));
}

void CombineLayout::clear() {
  rows_.clear();
  peer_ends_.clear();
  num_dispatched_ = 0;
}

void CombineLayout::add_peer(const DispatchMessage& message) {
  for (int i = 0; i < message.count(); ++i) {
    const RowRoute route = message.route(i);
    for (int32_t entry = 0; entry < static_cast<int32_t>(route.ids.size()); ++entry) {
      const int32_t expert = route.ids[static_cast<size_t>(entry)];
      const int32_t key = nodes_[static_cast<size_t>(expert)];
      if (entry > 0 && rows_.back().key == key) {
        rows_.back().end = entry + 1;
      } else {
        rows_.push_back({num_dispatched_, key, entry, entry + 1});
      }
    }
    ++num_dispatched_;
  }
  peer_ends_.push_back(rows_.size());
}

std::span<const size_t> CombineLayout::byte_offsets(const DispatchFormat& format) {
  BERYL_ASSERT(peer_ends_.size() + 1 == byte_offsets_.size(), "{} peers added", peer_ends_.size());
  for (size_t peer = 0; peer < peer_ends_.size(); ++peer) {
    byte_offsets_[peer + 1] = peer_ends_[peer] * format.row_bytes();
  }
  return byte_offsets_;
}

}  // namespace beryl::expert
