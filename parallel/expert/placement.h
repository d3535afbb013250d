// Placement: which rank holds which expert, in which slot of its local weights. Contiguous by
// default; any table with at least one copy of each expert is legal.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::expert {

struct ExpertCopy {
  int32_t rank = 0;
  int32_t slot = 0;  // index into the rank's local expert weights
};

class Placement {
 public:
  // Rank r holds experts [r * E / P, (r + 1) * E / P) (integer division, so sizes may differ by
  // one; ranks may be empty when P > E). num_experts, num_ranks >= 1.
  static Placement contiguous(int num_experts, int num_ranks);

  // local_experts[r] = global ids held by rank r, slot order. An expert without a copy, an id out
  // of range or a duplicate on one rank is an error.
  static base::Expected<Placement> from_table(
      int num_experts, const std::vector<std::vector<int32_t>>& local_experts);

  int num_experts() const { return static_cast<int>(copies_.size()); }
  int num_ranks() const { return static_cast<int>(local_experts_.size()); }
  uint32_t version() const { return version_; }

  std::span<const ExpertCopy> copies(int expert) const {
    return copies_[static_cast<size_t>(expert)];
  }
  std::span<const int32_t> local_experts(int rank) const {
    return local_experts_[static_cast<size_t>(rank)];
  }

  // The copy that serves (request, position, layer): a hash of these three, never of the batch row.
  ExpertCopy choose_copy(int expert, uint64_t request_seed, int32_t position, int32_t layer) const;

 private:
  std::vector<std::vector<ExpertCopy>> copies_;      // [num_experts]
  std::vector<std::vector<int32_t>> local_experts_;  // [num_ranks]
  uint32_t version_ = 1;
};

}  // namespace beryl::expert
