// LocalExperts: the expert exchange of a group of one rank whose memory is a device's. Nothing
// travels, so nothing is packed, and all index work is done where the routing lies: no host
// synchronisation.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/ops.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/expert/ops_buffer.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

class LocalExperts {
 public:
  // Most rows of one pass over the experts; longer steps take several, with the same sums. Results
  // of a pass are 4 * H * top_k bytes a row, and each pass reads the weights once more: at 4,096
  // rows the products still take longer than that.
  static constexpr int kMaxPassRows = 4096;

  // `ops` must outlive it; `placement` is of one rank. num_bytes() are taken here.
  LocalExperts(kernels::Ops& ops, const Placement& placement, const ExchangeLimits& limits,
               int max_pass_rows = kMaxPassRows);
  static size_t num_bytes(int num_experts, const ExchangeLimits& limits,
                          int max_pass_rows = kMaxPassRows);

  // Absent where so many rows take several passes.
  std::optional<LocalGroups> groups_of(int num_rows) const;

  // Calls `sum` for the weighted expert rows of a pass, until every row has been summed once.
  void run(const RoutedRows& rows, const ExpertExchange::ExpertFunction& experts,
           const ExpertExchange::SumFunction& sum);

  // Rows of each expert so far; waits for the device. [num_experts]
  std::vector<uint64_t> load() const;

 private:
  void run_pass(const RoutedRows& rows, const ExpertExchange::ExpertFunction& experts,
                const ExpertExchange::SumFunction& sum, int64_t first_row);
  kernels::ExpertGroups groups() const;
  const int32_t* slot_of_experts() const;
  int32_t* ints(int array) const;

  kernels::Ops& ops_;
  const ExchangeLimits limits_;  // max_rows: of a pass
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
