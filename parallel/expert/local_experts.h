// LocalExperts: the expert exchange of a group of one rank whose memory is a device's. Nothing
// travels, so nothing is packed, and all index work is done where the routing lies: no host
// synchronisation.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/expert/ops_buffer.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

class LocalExperts {
 public:
  // `ops` must outlive it; `placement` is of one rank. Memory for max_rows rows is taken here:
  // about 4 * H * max_rows * top_k bytes.
  LocalExperts(kernels::Ops& ops, const Placement& placement, const ExchangeLimits& limits);

  // out [T, H] = the sum of the weighted expert rows of each row, in tree order.
  void run(const RoutedRows& rows, const ExpertExchange::ExpertFunction& experts,
           const kernels::TensorView& out);

  // Rows of each expert so far; waits for the device. [num_experts]
  std::vector<uint64_t> load() const;

 private:
  kernels::ExpertGroups groups() const;
  int32_t* ints(int array) const;

  kernels::Ops& ops_;
  const ExchangeLimits limits_;
  const int num_experts_;
  const int num_slots_;
  std::vector<int32_t> slot_of_;  // [num_experts]
  size_t ints_stride_ = 0;
  OpsBuffer slots_;    // slot_of_ on the device
  OpsBuffer ints_;     // the integer arrays of ExpertGroups
  OpsBuffer weights_;  // [max_rows * top_k]
  OpsBuffer counts_;   // [num_slots] int64
  OpsBuffer results_;  // [max_rows * top_k, H]
};

}  // namespace beryl::expert
