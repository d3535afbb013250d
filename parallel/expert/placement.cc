#include "parallel/expert/placement.h"

#include "parallel/base/assert.h"

namespace beryl::expert {
namespace {

// One round of splitmix64's finaliser: every input bit reaches every output bit.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

Placement Placement::contiguous(int num_experts, int num_ranks) {
  BERYL_ASSERT(num_experts >= 1 && num_ranks >= 1, "{} experts on {} ranks", num_experts,
               num_ranks);
  std::vector<std::vector<int32_t>> table(static_cast<size_t>(num_ranks));
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    const int64_t end = (rank + 1) * num_experts / num_ranks;
    for (int64_t expert = rank * num_experts / num_ranks; expert < end; ++expert) {
      table[static_cast<size_t>(rank)].push_back(static_cast<int32_t>(expert));
    }
  }
  return from_table(num_experts, table).value();
}

base::Expected<Placement> Placement::from_table(
    int num_experts, const std::vector<std::vector<int32_t>>& local_experts) {
  if (num_experts < 1) return base::invalid_argument("num_experts", "needs at least one expert");
  if (local_experts.empty()) return base::invalid_argument("placement", "needs at least one rank");
  Placement placement;
  placement.copies_.resize(static_cast<size_t>(num_experts));
  placement.local_experts_ = local_experts;
  for (size_t rank = 0; rank < local_experts.size(); ++rank) {
    for (size_t slot = 0; slot < local_experts[rank].size(); ++slot) {
      const int32_t expert = local_experts[rank][slot];
      if (expert < 0 || expert >= num_experts) {
        return base::invalid_argument(
            "placement", fmt::format("rank {} lists expert {}, but there are {} experts", rank,
                                     expert, num_experts));
      }
      auto& copies = placement.copies_[static_cast<size_t>(expert)];
      if (!copies.empty() && copies.back().rank == static_cast<int32_t>(rank)) {
        return base::invalid_argument("placement",
                                      fmt::format("rank {} lists expert {} twice", rank, expert));
      }
      copies.push_back({static_cast<int32_t>(rank), static_cast<int32_t>(slot)});
    }
  }
  for (size_t expert = 0; expert < placement.copies_.size(); ++expert) {
    if (placement.copies_[expert].empty()) {
      return base::invalid_argument("placement", fmt::format("no rank holds expert {}", expert));
    }
  }
  return placement;
}

ExpertCopy Placement::choose_copy(int expert, uint64_t request_seed, int32_t position,
                                  int32_t layer) const {
  const std::span<const ExpertCopy> all = copies(expert);
  if (all.size() == 1) return all[0];
  const auto place =
      static_cast<uint64_t>(static_cast<uint32_t>(position)) << 32 | static_cast<uint32_t>(layer);
  return all[mix(mix(request_seed) ^ place) % all.size()];
}

}  // namespace beryl::expert
