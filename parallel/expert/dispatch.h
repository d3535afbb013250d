// Dispatch: carries the routed rows of a layer to the ranks of their experts, round by round.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/combine_layout.h"
#include "parallel/expert/dispatch_message.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/expert/ops_buffer.h"
#include "parallel/expert/placement.h"
#include "parallel/expert/route_table.h"

namespace beryl::expert {

// Most rows a rank sends to one peer in a round.
int rows_per_round(const ExchangeLimits& limits);

// What the source remembers of a round until its results are back.
struct SourceRound {
  CombineLayout layout;
  std::vector<int32_t> rows;  // source row of each dispatched row, from the begin of the round
};

class Dispatch {
 public:
  // `nodes` as from sum_nodes(). All references must outlive the object.
  Dispatch(comm::Communicator& communicator, kernels::Ops& ops, const Placement& placement,
           const ExchangeLimits& limits, std::span<const int32_t> nodes);

  // Chooses the ranks of all rows, in exact mode exchanges the counts, and starts round 0.
  base::Status begin(const StepShape& shape, const RoutedRows& rows);
  int num_rounds() const { return num_rounds_; }

  // Packs and sends a round; the one before must have been opened.
  base::Status start(int round);
  base::Status wait();
  // The messages [size] of the round that was waited for; they live until the next start().
  std::span<const DispatchMessage> open();

  SourceRound& source_round(int round) { return source_rounds_[static_cast<size_t>(round % 2)]; }
  RoundRows round_rows(int round) const { return routes_.round_rows(round); }
  const DispatchFormat& format() const { return format_; }

 private:
  base::Status exchange_counts();
  int slots_to(int peer, int round) const;
  int slots_from(int peer, int round) const;
  int rows_in_round(int rank, int round) const;

  comm::Communicator& communicator_;
  const int size_;
  const int max_rows_;
  const int rows_per_round_;
  const DispatchFormat format_;
  RouteTable routes_;
  OpsBuffer send_;
  OpsBuffer recv_;
  std::vector<size_t> send_offsets_;       // [size + 1] bytes
  std::vector<size_t> recv_offsets_;       // [size + 1] bytes
  std::vector<DispatchMessage> received_;  // [size]
  SourceRound source_rounds_[2];           // this round and the next

  StepMode mode_ = StepMode::kExact;
  int num_rounds_ = 0;
  std::vector<int32_t> rank_rows_;     // [size]
  std::vector<int32_t> counts_sent_;   // [size, num_rounds]
  std::vector<int32_t> counts_;        // [size, num_rounds] rows that each peer sends
  std::vector<size_t> count_offsets_;  // [size + 1] bytes
  std::unique_ptr<comm::PendingExchange> pending_;
};

}  // namespace beryl::expert
