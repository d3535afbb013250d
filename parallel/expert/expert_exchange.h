// ExpertExchange: dispatch of token rows to the ranks that hold their experts, and the combine that
// brings the weighted results back and sums them in tree order (bitwise the same on any number of
// ranks). One rank is not special: its communicator copies.
//
// A step calls begin_step(); each layer then begin(), computes its dense MLP while rows travel, and
// finish().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "kernels/ops.h"
#include "parallel/base/expected.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/placement.h"

namespace beryl::expert {

enum class StepMode {
  kPadded,  // slots per peer known from the plan (decode): true counts travel in a header, no count
            // exchange
  kExact,   // counts first, then rows, in rounds of fixed capacity (prefill, mixed)
};

// The shape of a step, equal on all ranks: it comes from the plan, no rank derives it.
struct StepShape {
  StepMode mode = StepMode::kExact;
  int bucket = 0;                      // padded: most slots for a peer, >= any rank_rows
  std::span<const int32_t> rank_rows;  // [size] rows of each rank in this step, may be 0
};

// This rank's routed rows of one layer; tensors in memory of the operations, arrays on the host.
// Everything stays valid until finish().
struct RoutedRows {
  kernels::TensorView x;                    // [T, H] activation dtype: expert input
  kernels::TensorView topk_idx;             // [T, top_k] int32 expert ids; -1 = unused
  kernels::TensorView topk_weights;         // [T, top_k] float32
  const int32_t* positions = nullptr;       // [T]
  const uint64_t* request_seeds = nullptr;  // [T] for choosing among copies
  int32_t layer = 0;
  bool is_grouped = false;  // the caller has used local_groups()
};

// Where a caller may group its rows by expert itself, together with choosing the experts
// (kernels::Ops::route_and_group).
struct LocalGroups {
  const int32_t* slot_of = nullptr;
  kernels::ExpertGroups groups;
};

// Rows that arrived for this rank's experts, and the plan of the grouped FFN over them.
struct ReceivedRows {
  kernels::TensorView x;       // [R, H]
  kernels::ExpertBatch batch;  // by local slot
};

// Equal on all ranks. Memory is taken once, at construction, for P * C received rows, where C is
// the smaller of max_rows and round_capacity: about 4 * H * P * C * (4 + min(top_k, local experts))
// bytes. On a device (operations whose memory is not the host's) a group has one rank, and memory
// is that of LocalExperts.
struct ExchangeLimits {
  int hidden_size = 0;
  int top_k = 0;
  int max_rows = 0;           // most rows of one rank in a step
  int round_capacity = 1024;  // most rows of a rank in one round; longer steps take several
};

// Tokens per expert since construction, for load reports. [num_experts] of this rank's routing.
using ExpertLoad = std::span<const uint64_t>;

// After an error (a lost peer, or a mistake of a peer) only destruction is allowed.
class ExpertExchange {
 public:
  // All references must outlive the exchange.
  ExpertExchange(comm::Communicator& communicator, kernels::Ops& ops, const Placement& placement,
                 const ExchangeLimits& limits);
  ~ExpertExchange();
  // What is taken: on a device exactly, on the host about.
  static size_t num_bytes(const Placement& placement, const ExchangeLimits& limits,
                          bool memory_is_host);
  ExpertExchange(const ExpertExchange&) = delete;
  ExpertExchange& operator=(const ExpertExchange&) = delete;

  // True where begin() and finish() do nothing but launch operations, the same ones for any
  // routing: kernels::Ops::run_repeatable may hold them.
  bool is_repeatable() const;

  // Present where all experts are here and num_rows rows need one pass over them.
  std::optional<LocalGroups> local_groups(int num_rows) const;

  // Before the first layer of a step. Collective; fails when the group has ended.
  base::Status begin_step();

  // Packs each row once per destination rank and starts the first exchange. Collective.
  base::Status begin(const StepShape& shape, const RoutedRows& rows);

  // Computes out[a] (kernels::Ops::expert_ffn) for the assignments of `in`.
  using ExpertFunction =
      std::function<void(const ReceivedRows& in, const kernels::TensorView& out)>;

  // Sums the results of rows [first_row, first_row + batch.num_rows) of this rank: `batch` names
  // their leaves among the rows of `results`.
  using SumFunction = std::function<void(const kernels::TensorView& results,
                                         const kernels::TreeSumBatch& batch, int64_t first_row)>;

  // Receives, runs `experts` on what came (once a round, also with zero rows), returns results to
  // their sources and calls `sum` until every row of this rank has been summed once. Collective.
  base::Status finish(const ExpertFunction& experts, const SumFunction& sum);
  // The same, with the sums written to out [T, H].
  base::Status finish(const ExpertFunction& experts, const kernels::TensorView& out);

  // Valid until the next call of any function.
  ExpertLoad load() const;

 private:
  kernels::Ops& ops_;
  struct Impl;
  struct Rounds;
  struct Local;
  std::unique_ptr<Impl> impl_;
};

}  // namespace beryl::expert
