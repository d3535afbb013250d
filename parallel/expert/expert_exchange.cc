#include "parallel/expert/expert_exchange.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "parallel/base/assert.h"
#include "parallel/expert/dispatch.h"
#include "parallel/expert/expert_plan.h"
#include "parallel/expert/local_experts.h"

namespace beryl::expert {
namespace {

using kernels::DType;
using kernels::TensorView;

// Most rows that a rank returns for one row: one for each of its sum nodes.
int max_partials(const Placement& placement, std::span<const int32_t> nodes, int rank, int top_k) {
  std::set<int32_t> keys;
  for (const int32_t expert : placement.local_experts(rank)) {
    keys.insert(nodes[static_cast<size_t>(expert)]);
  }
  return std::min(top_k, static_cast<int>(keys.size()));
}

}  // namespace

struct ExpertExchange::Impl {
  virtual ~Impl() = default;
  virtual bool is_repeatable() const = 0;
  virtual std::optional<LocalGroups> local_groups(int num_rows) const = 0;
  virtual base::Status begin_step() = 0;
  virtual base::Status begin(const StepShape& shape, const RoutedRows& rows) = 0;
  virtual base::Status finish(const ExpertFunction& experts, const SumFunction& sum) = 0;
  virtual ExpertLoad load() = 0;
};

// Rows travel in rounds of fixed capacity; all index work is the host's.
struct ExpertExchange::Rounds final : Impl {
  Rounds(comm::Communicator& communicator, kernels::Ops& ops, const Placement& placement,
         const ExchangeLimits& limits);

  bool is_repeatable() const override { return false; }
  std::optional<LocalGroups> local_groups(int) const override { return std::nullopt; }
  base::Status begin_step() override { return base::Status::ok(); }
  base::Status begin(const StepShape& shape, const RoutedRows& rows) override;
  base::Status finish(const ExpertFunction& experts, const SumFunction& sum) override {
    BERYL_ASSERT(begun, "finish() without begin()");
    begun = false;
    return run_rounds(experts, sum);
  }
  ExpertLoad load() override { return counts; }

  void count_load(const RoutedRows& rows);
  base::Status receive();
  void compute(const ExpertFunction& experts);
  base::Status start_combine(int round);
  void finish_sums(int round, const SumFunction& sum);
  base::Status run_rounds(const ExpertFunction& experts, const SumFunction& sum);

  TensorView rows_view(const OpsBuffer& buffer, int num_rows) const {
    return {buffer.bytes(), DType::kFloat32, {num_rows, hidden_size}};
  }

  comm::Communicator& communicator;
  kernels::Ops& ops;
  const int hidden_size;
  const int max_received;  // rows of a round
  const std::vector<int32_t> nodes;
  Dispatch dispatch;
  ExpertPlan plan;
  CombineLayout layout;  // of the rows that this rank returns
  SumPlan sums;
  OpsBuffer x;                   // [R, H] received rows
  OpsBuffer results;             // [A, H] weighted expert rows
  OpsBuffer partials;            // [*, H] rows to return
  OpsBuffer returned;            // [*, H] rows that came back
  std::vector<uint64_t> counts;  // [num_experts]
  std::unique_ptr<comm::PendingExchange> combine;
  bool begun = false;
};

// One rank on a device.
struct ExpertExchange::Local final : Impl {
  Local(comm::Communicator& group, kernels::Ops& ops, const Placement& placement,
        const ExchangeLimits& limits)
      : communicator(group), experts_here(ops, placement, limits) {
    BERYL_ASSERT(group.size() == 1, "{} ranks: rows of a device cannot travel yet", group.size());
  }

  bool is_repeatable() const override { return true; }
  std::optional<LocalGroups> local_groups(int num_rows) const override {
    return experts_here.groups_of(num_rows);
  }
  // A collective of one: fails when the group was aborted.
  base::Status begin_step() override { return communicator.barrier(); }
  base::Status begin(const StepShape&, const RoutedRows& routed) override {
    rows = routed;
    return base::Status::ok();
  }
  base::Status finish(const ExpertFunction& experts, const SumFunction& sum) override {
    experts_here.run(rows, experts, sum);
    return base::Status::ok();
  }
  ExpertLoad load() override {
    counts = experts_here.load();
    return counts;
  }

  comm::Communicator& communicator;
  LocalExperts experts_here;
  RoutedRows rows;
  std::vector<uint64_t> counts;  // [num_experts]
};

ExpertExchange::Rounds::Rounds(comm::Communicator& communicator_in, kernels::Ops& ops_in,
                               const Placement& placement, const ExchangeLimits& limits)
    : communicator(communicator_in),
      ops(ops_in),
      hidden_size(limits.hidden_size),
      max_received(communicator.size() * rows_per_round(limits)),
      nodes(sum_nodes(placement)),
      dispatch(communicator, ops, placement, limits, nodes),
      plan(placement, communicator.rank(), max_received, limits.top_k),
      layout(nodes, communicator.size(), max_received, limits.top_k),
      x(ops, dispatch.format().row_bytes() * static_cast<size_t>(max_received)),
      results(ops, dispatch.format().row_bytes() * static_cast<size_t>(max_received) *
                       std::min(static_cast<size_t>(limits.top_k),
                                placement.local_experts(communicator.rank()).size())),
      partials(ops, dispatch.format().row_bytes() *
                        static_cast<size_t>(max_received * max_partials(placement, nodes,
                                                                        communicator.rank(),
                                                                        limits.top_k))),
      returned(ops, dispatch.format().row_bytes() *
                        static_cast<size_t>(rows_per_round(limits) *
                                            std::min(limits.top_k, placement.num_experts()))),
      counts(static_cast<size_t>(placement.num_experts())) {
  BERYL_ASSERT(placement.num_ranks() == communicator.size(), "placement for {} ranks, group of {}",
               placement.num_ranks(), communicator.size());
  sums.reserve(max_received * limits.top_k, max_received * limits.top_k);
}

void ExpertExchange::Rounds::count_load(const RoutedRows& rows) {
  const int32_t* const ids = rows.topk_idx.as<const int32_t>();
  for (int64_t i = 0; i < rows.topk_idx.num_elements(); ++i) {
    if (ids[i] >= 0) ++counts[static_cast<size_t>(ids[i])];
  }
}

// Unpacks the round that has arrived; afterwards the next one may be started.
base::Status ExpertExchange::Rounds::receive() {
  const std::span<const DispatchMessage> messages = dispatch.open();
  if (base::Status status = plan.build(messages); !status) return status;
  layout.clear();
  float* to = x.f32();
  for (const DispatchMessage& message : messages) {
    layout.add_peer(message);
    to = std::copy_n(message.x(), message.count() * hidden_size, to);
  }
  return base::Status::ok();
}

void ExpertExchange::Rounds::compute(const ExpertFunction& experts) {
  const kernels::ExpertBatch batch = plan.batch();
  const TensorView out = rows_view(results, batch.num_assignments);
  experts(ReceivedRows{rows_view(x, plan.num_rows()), batch}, out);
  plan.plan_sums(layout, sums);
  ops.tree_sum(out, sums.batch(), rows_view(partials, sums.batch().num_rows));
}

base::Status ExpertExchange::Rounds::start_combine(int round) {
  const DispatchFormat& format = dispatch.format();
  auto exchange = communicator.start_all_to_all_v(
      {partials.bytes(), layout.byte_offsets(format), returned.bytes(),
       dispatch.source_round(round).layout.byte_offsets(format)});
  if (!exchange) return exchange.error();
  combine = std::move(exchange).value();
  return base::Status::ok();
}

void ExpertExchange::Rounds::finish_sums(int round, const SumFunction& sum) {
  const SourceRound& source = dispatch.source_round(round);
  const RoundRows range = dispatch.round_rows(round);
  const int num_rows = range.end - range.begin;
  if (num_rows == 0) return;
  sums.build(source.layout.rows(), source.rows, num_rows);
  sum(rows_view(returned, static_cast<int>(source.layout.rows().size())), sums.batch(),
      range.begin);
}

// The rows of the next round travel while the experts compute.
base::Status ExpertExchange::Rounds::run_rounds(const ExpertFunction& experts,
                                                const SumFunction& sum) {
  const int num_rounds = dispatch.num_rounds();
  base::Status status = dispatch.wait();
  for (int round = 0; status && round < num_rounds; ++round) {
    const bool is_last = round + 1 == num_rounds;
    status = receive();
    if (status && !is_last) status = dispatch.start(round + 1);
    if (!status) break;
    compute(experts);
    status = start_combine(round);
    if (status && !is_last) status = dispatch.wait();
    if (!status) break;
    status = std::exchange(combine, nullptr)->wait();
    if (status) finish_sums(round, sum);
  }
  return status;
}

base::Status ExpertExchange::Rounds::begin(const StepShape& shape, const RoutedRows& rows) {
  BERYL_ASSERT(!begun, "begin() before finish() of the layer before");
  BERYL_ASSERT(!rows.is_grouped, "rows of a layer that were grouped here");
  count_load(rows);
  base::Status status = dispatch.begin(shape, rows);
  begun = status.is_ok();
  return status;
}

ExpertExchange::ExpertExchange(comm::Communicator& communicator, kernels::Ops& ops,
                               const Placement& placement, const ExchangeLimits& limits)
    : ops_(ops) {
  if (ops.memory_is_host()) {
    impl_ = std::make_unique<Rounds>(communicator, ops, placement, limits);
  } else {
    impl_ = std::make_unique<Local>(communicator, ops, placement, limits);
  }
}

size_t ExpertExchange::num_bytes(const Placement& placement, const ExchangeLimits& limits,
                                 bool memory_is_host) {
  const size_t num_local = placement.local_experts(0).size();
  if (!memory_is_host) return LocalExperts::num_bytes(placement.num_experts(), limits);
  const size_t received =
      static_cast<size_t>(placement.num_ranks()) * static_cast<size_t>(rows_per_round(limits));
  const size_t copies = 4 + std::min(static_cast<size_t>(limits.top_k), num_local);
  return received * copies * static_cast<size_t>(limits.hidden_size) * sizeof(float);
}

ExpertExchange::~ExpertExchange() = default;

bool ExpertExchange::is_repeatable() const {
  return impl_->is_repeatable();
}

std::optional<LocalGroups> ExpertExchange::local_groups(int num_rows) const {
  return impl_->local_groups(num_rows);
}

base::Status ExpertExchange::begin_step() {
  return impl_->begin_step();
}

base::Status ExpertExchange::begin(const StepShape& shape, const RoutedRows& rows) {
  return impl_->begin(shape, rows);
}

base::Status ExpertExchange::finish(const ExpertFunction& experts, const SumFunction& sum) {
  return impl_->finish(experts, sum);
}

base::Status ExpertExchange::finish(const ExpertFunction& experts, const TensorView& out) {
  return finish(experts, [&](const TensorView& results, const kernels::TreeSumBatch& batch,
                             int64_t first_row) {
    ops_.tree_sum(results, batch, out.rows(first_row, batch.num_rows));
  });
}

ExpertLoad ExpertExchange::load() const {
  return impl_->load();
}

}  // namespace beryl::expert
