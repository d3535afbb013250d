#include "parallel/expert/dispatch.h"

#include <algorithm>

#include "parallel/base/assert.h"

namespace beryl::expert {

int rows_per_round(const ExchangeLimits& limits) {
  return std::max(1, std::min(limits.max_rows, limits.round_capacity));
}

Dispatch::Dispatch(comm::Communicator& communicator, kernels::Ops& ops, const Placement& placement,
                   const ExchangeLimits& limits, std::span<const int32_t> nodes)
    : communicator_(communicator),
      size_(communicator.size()),
      max_rows_(limits.max_rows),
      rows_per_round_(rows_per_round(limits)),
      format_{limits.hidden_size, limits.top_k},
      routes_(placement, limits.max_rows, limits.top_k, rows_per_round_),
      send_(ops, static_cast<size_t>(size_) * format_.message_bytes(rows_per_round_)),
      recv_(ops, static_cast<size_t>(size_) * format_.message_bytes(rows_per_round_)),
      send_offsets_(static_cast<size_t>(size_) + 1),
      recv_offsets_(static_cast<size_t>(size_) + 1),
      received_(static_cast<size_t>(size_)),
      source_rounds_{{CombineLayout(nodes, size_, size_ * rows_per_round_, limits.top_k), {}},
                     {CombineLayout(nodes, size_, size_ * rows_per_round_, limits.top_k), {}}},
      rank_rows_(static_cast<size_t>(size_)),
      count_offsets_(static_cast<size_t>(size_) + 1) {
  const size_t max_counts = static_cast<size_t>(size_) * routes_.max_rounds();
  counts_sent_.resize(max_counts);
  counts_.resize(max_counts);
  for (SourceRound& round : source_rounds_) {
    round.rows.reserve(static_cast<size_t>(size_ * rows_per_round_));
  }
}

base::Status Dispatch::begin(const StepShape& shape, const RoutedRows& rows) {
  BERYL_ASSERT(shape.rank_rows.size() == rank_rows_.size(), "{} of {} ranks",
               shape.rank_rows.size(), size_);
  const int32_t most = *std::max_element(shape.rank_rows.begin(), shape.rank_rows.end());
  const int32_t mine = shape.rank_rows[static_cast<size_t>(communicator_.rank())];
  BERYL_ASSERT(most <= max_rows_ && mine == rows.x.shape[0], "{} rows, {} planned, at most {}",
               rows.x.shape[0], mine, max_rows_);
  std::copy(shape.rank_rows.begin(), shape.rank_rows.end(), rank_rows_.begin());
  mode_ = shape.mode;
  num_rounds_ = std::max(1, (most + rows_per_round_ - 1) / rows_per_round_);
  routes_.build(rows, num_rounds_);
  if (mode_ == StepMode::kExact) {
    if (base::Status status = exchange_counts(); !status) return status;
  } else {
    BERYL_ASSERT(most <= shape.bucket, "{} rows in a bucket of {}", most, shape.bucket);
  }
  return start(0);
}

base::Status Dispatch::exchange_counts() {
  const auto num_rounds = static_cast<size_t>(num_rounds_);
  for (int peer = 0; peer < size_; ++peer) {
    const auto p = static_cast<size_t>(peer);
    const std::span<const int32_t> counts = routes_.counts(peer);
    std::copy(counts.begin(), counts.end(), counts_sent_.begin() + p * num_rounds);
    count_offsets_[p + 1] = (p + 1) * num_rounds * sizeof(int32_t);
  }
  auto exchange = communicator_.start_all_to_all_v(
      {reinterpret_cast<const std::byte*>(counts_sent_.data()), count_offsets_,
       reinterpret_cast<std::byte*>(counts_.data()), count_offsets_});
  if (!exchange) return exchange.error();
  return exchange.value()->wait();
}

// Padded slots are the rows the sender has in this round, which both sides know from the plan:
// never fewer than it sends, never more than the bucket.
int Dispatch::slots_to(int peer, int round) const {
  if (mode_ == StepMode::kExact) return routes_.count(peer, round);
  return rows_in_round(communicator_.rank(), round);
}

int Dispatch::slots_from(int peer, int round) const {
  if (mode_ == StepMode::kPadded) return rows_in_round(peer, round);
  return counts_[static_cast<size_t>(peer * num_rounds_ + round)];
}

int Dispatch::rows_in_round(int rank, int round) const {
  return std::clamp(rank_rows_[static_cast<size_t>(rank)] - round * rows_per_round_, 0,
                    rows_per_round_);
}

base::Status Dispatch::start(int round) {
  SourceRound& source = source_round(round);
  source.layout.clear();
  source.rows.clear();
  for (int peer = 0; peer < size_; ++peer) {
    const auto p = static_cast<size_t>(peer);
    const int slots_in = slots_from(peer, round);
    const int slots_out = slots_to(peer, round);
    if (slots_in < 0 || slots_in > rows_per_round_) {
      return base::Error{base::ErrorCode::kInternal,
                         fmt::format("rank {} announces {} rows, a round has at most {}", peer,
                                     slots_in, rows_per_round_),
                         {},
                         {}};
    }
    send_offsets_[p + 1] = send_offsets_[p] + format_.message_bytes(slots_out);
    recv_offsets_[p + 1] = recv_offsets_[p] + format_.message_bytes(slots_in);
    DispatchMessage message =
        DispatchMessage::reset(format_, send_.bytes() + send_offsets_[p], slots_out);
    routes_.pack(peer, round, message, source.rows);
    source.layout.add_peer(message);
  }
  auto exchange = communicator_.start_all_to_all_v(
      {send_.bytes(), send_offsets_, recv_.bytes(), recv_offsets_});
  if (!exchange) return exchange.error();
  pending_ = std::move(exchange).value();
  return base::Status::ok();
}

base::Status Dispatch::wait() {
  BERYL_ASSERT(pending_ != nullptr, "no round is under way");
  const auto pending = std::move(pending_);
  return pending->wait();
}

std::span<const DispatchMessage> Dispatch::open() {
  for (size_t p = 0; p < received_.size(); ++p) {
    received_[p] = DispatchMessage::open(format_, recv_.bytes() + recv_offsets_[p],
                                         recv_offsets_[p + 1] - recv_offsets_[p]);
  }
  return received_;
}

}  // namespace beryl::expert
