#include "parallel/comm/mpi/mpi_communicator.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "parallel/base/assert.h"
#include "parallel/comm/mpi/backoff.h"
#include "parallel/comm/mpi/mpi_transfer.h"
#include "parallel/comm/outstanding.h"

namespace beryl::comm {
namespace {

using Clock = std::chrono::steady_clock;

// Every MPI library allows at least this many tags (MPI 3.1, 8.1.2).
constexpr uint64_t kNumTags = 32'768;

base::Error unavailable(std::string message) {
  return base::Error{base::ErrorCode::kUnavailable, std::move(message), {}, {}};
}

size_t part_bytes(std::span<const size_t> offsets, int peer) {
  const auto p = static_cast<size_t>(peer);
  return offsets[p + 1] - offsets[p];
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MPI_Comm data, MPI_Comm control, const MpiEnvironment& environment,
                  MpiOptions options);
  ~MpiCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  base::Expected<std::unique_ptr<PendingExchange>> start_all_to_all_v(
      const ExchangeBuffers& buffers) override;
  base::Status all_gather(std::span<const std::byte> send, std::span<std::byte> recv) override;
  base::Status barrier() override;
  void abort() noexcept override { abort_requested_ = true; }

  base::Status finish_exchange(uint64_t sequence);
  void drop_exchange(uint64_t sequence);

 private:
  MpiTransfer& transfer_of(uint64_t sequence) {
    return transfers_[sequence % kMaxOutstandingExchanges];
  }
  static int tag_of(uint64_t sequence) { return static_cast<int>(sequence % kNumTags); }

  base::Status check_alive();
  base::Status check_part(size_t num_bytes);
  base::Status start_exchange(uint64_t sequence, const ExchangeBuffers& buffers);
  base::Status start_all_gather(uint64_t sequence, std::span<const std::byte> send_part,
                                std::span<std::byte> recv);
  base::Status complete(MpiTransfer& transfer);
  base::Error fail(const base::Error& cause);
  void tell_peers();

  const MPI_Comm data_;
  const MPI_Comm control_;  // carries nothing but the news that a rank gave up
  const std::chrono::milliseconds deadline_;
  const int rank_;
  const int size_;
  Outstanding outstanding_;
  std::array<MpiTransfer, kMaxOutstandingExchanges> transfers_;
  MPI_Request abort_notice_ = MPI_REQUEST_NULL;
  char abort_byte_ = 0;
  std::atomic<bool> abort_requested_ = false;
  bool dead_ = false;
  std::string reason_;
};

class MpiExchange final : public PendingExchange {
 public:
  MpiExchange(MpiCommunicator& owner, uint64_t sequence) : owner_(owner), sequence_(sequence) {}
  ~MpiExchange() override {
    if (!waited_) owner_.drop_exchange(sequence_);
  }
  base::Status wait() override {
    waited_ = true;
    return owner_.finish_exchange(sequence_);
  }

 private:
  MpiCommunicator& owner_;
  const uint64_t sequence_;
  bool waited_ = false;
};

MpiCommunicator::MpiCommunicator(MPI_Comm data, MPI_Comm control, const MpiEnvironment& environment,
                                 MpiOptions options)
    : data_(data),
      control_(control),
      deadline_(options.deadline),
      rank_(environment.rank()),
      size_(environment.size()),
      transfers_{MpiTransfer(size_), MpiTransfer(size_)} {
  static_assert(kMaxOutstandingExchanges == 2);
  MPI_Irecv(&abort_byte_, 1, MPI_BYTE, MPI_ANY_SOURCE, 0, control_, &abort_notice_);
}

// A dead communicator leaves its MPI handles to MPI_Finalize: freeing them needs the peers.
MpiCommunicator::~MpiCommunicator() {
  if (abort_requested_ && !dead_) fail(unavailable("aborted"));
  if (abort_notice_ != MPI_REQUEST_NULL) {
    MPI_Cancel(&abort_notice_);
    MPI_Wait(&abort_notice_, MPI_STATUS_IGNORE);  // local: a cancelled receive always ends
  }
  if (dead_) return;
  MPI_Comm data = data_;
  MPI_Comm control = control_;
  MPI_Comm_free(&data);
  MPI_Comm_free(&control);
}

base::Status MpiCommunicator::check_alive() {
  if (dead_) return unavailable("the rank group ended: " + reason_);
  if (abort_requested_) return fail(unavailable(fmt::format("rank {} aborted", rank_)));
  int noticed = 0;
  MPI_Status status;
  MPI_Test(&abort_notice_, &noticed, &status);
  if (noticed == 0) return base::Status::ok();
  return fail(unavailable(fmt::format("rank {} gave up", status.MPI_SOURCE)));
}

base::Status MpiCommunicator::check_part(size_t num_bytes) {
  if (num_bytes <= kMaxMpiPartBytes) return base::Status::ok();
  return base::invalid_argument(
      "buffers", fmt::format("a part has {} bytes, at most {} fit", num_bytes, kMaxMpiPartBytes));
}

// Receives are posted first, so that what arrives goes straight to its place. Empty parts send
// nothing.
base::Status MpiCommunicator::start_exchange(uint64_t sequence, const ExchangeBuffers& buffers) {
  const int tag = tag_of(sequence);
  MpiTransfer& transfer = transfer_of(sequence);
  base::Status status;
  for (int peer = 0; peer < size_ && status; ++peer) {
    status = check_part(
        std::max(part_bytes(buffers.send_offsets, peer), part_bytes(buffers.recv_offsets, peer)));
  }
  for (int peer = 0; peer < size_ && status; ++peer) {
    const size_t num_bytes = part_bytes(buffers.recv_offsets, peer);
    if (peer == rank_ || num_bytes == 0) continue;
    std::byte* const to = buffers.recv + buffers.recv_offsets[static_cast<size_t>(peer)];
    status = transfer.receive(data_, peer, tag, {to, num_bytes});
  }
  for (int i = 1; i < size_ && status; ++i) {
    const int peer = (rank_ + i) % size_;  // not all to rank 0 at first
    const size_t num_bytes = part_bytes(buffers.send_offsets, peer);
    if (num_bytes == 0) continue;
    const std::byte* const from = buffers.send + buffers.send_offsets[static_cast<size_t>(peer)];
    status = transfer.send(data_, peer, tag, {from, num_bytes});
  }
  if (!status) return status;
  const size_t own = part_bytes(buffers.send_offsets, rank_);
  BERYL_ASSERT(own == part_bytes(buffers.recv_offsets, rank_), "rank {} sends itself {} bytes",
               rank_, own);
  const auto me = static_cast<size_t>(rank_);
  if (own > 0) {
    std::memcpy(buffers.recv + buffers.recv_offsets[me], buffers.send + buffers.send_offsets[me],
                own);
  }
  return status;
}

base::Expected<std::unique_ptr<PendingExchange>> MpiCommunicator::start_all_to_all_v(
    const ExchangeBuffers& buffers) {
  check_offsets(buffers, size_);
  const uint64_t sequence = outstanding_.begin_exchange();
  base::Status status = check_alive();
  if (status) {
    status = start_exchange(sequence, buffers);
    if (!status) status = fail(status.error());
  }
  if (!status) return status.error();
  return std::unique_ptr<PendingExchange>(std::make_unique<MpiExchange>(*this, sequence));
}

base::Status MpiCommunicator::finish_exchange(uint64_t sequence) {
  outstanding_.end(sequence);
  return complete(transfer_of(sequence));
}

void MpiCommunicator::drop_exchange(uint64_t sequence) {
  if (!dead_) fail(unavailable(fmt::format("rank {} dropped exchange {}", rank_, sequence)));
}

base::Status MpiCommunicator::complete(MpiTransfer& transfer) {
  const auto start = Clock::now();
  Backoff backoff(start);
  while (true) {
    if (dead_) return check_alive();
    const base::Expected<bool> done = transfer.poll();
    if (!done) return fail(done.error());
    if (*done) return base::Status::ok();
    if (base::Status status = check_alive(); !status) return status;
    const auto now = Clock::now();
    if (now - start > deadline_) {
      return fail(unavailable(
          fmt::format("a peer of rank {} did not come within {} ms", rank_, deadline_.count())));
    }
    backoff.pause(now);
  }
}

base::Status MpiCommunicator::start_all_gather(uint64_t sequence,
                                               std::span<const std::byte> send_part,
                                               std::span<std::byte> recv) {
  MpiTransfer& transfer = transfer_of(sequence);
  base::Status status = check_part(send_part.size());
  for (int peer = 0; peer < size_ && status; ++peer) {
    const auto part = recv.subspan(static_cast<size_t>(peer) * send_part.size(), send_part.size());
    if (peer != rank_) {
      status = transfer.receive(data_, peer, tag_of(sequence), part);
    } else if (!part.empty()) {
      std::memcpy(part.data(), send_part.data(), part.size());
    }
  }
  for (int i = 1; i < size_ && status; ++i) {
    status = transfer.send(data_, (rank_ + i) % size_, tag_of(sequence), send_part);
  }
  return status;
}

base::Status MpiCommunicator::all_gather(std::span<const std::byte> send_part,
                                         std::span<std::byte> recv) {
  BERYL_ASSERT(recv.size() == send_part.size() * static_cast<size_t>(size_), "{} != {} * {}",
               recv.size(), send_part.size(), size_);
  const uint64_t sequence = outstanding_.only_one();
  if (base::Status status = check_alive(); !status) return status;
  const base::Status status = start_all_gather(sequence, send_part, recv);
  if (!status) return fail(status.error());
  return complete(transfer_of(sequence));
}

base::Status MpiCommunicator::barrier() {
  return all_gather({}, {});
}

// Ends the group. The first cause stays.
base::Error MpiCommunicator::fail(const base::Error& cause) {
  if (!std::exchange(dead_, true)) {
    reason_ = cause.message;
    outstanding_.break_off();
    tell_peers();
    for (MpiTransfer& transfer : transfers_) transfer.cancel();
  }
  return cause;
}

void MpiCommunicator::tell_peers() {
  static const char notice = 1;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(&notice, 1, MPI_BYTE, peer, 0, control_, &request);
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }
}

}  // namespace

base::Expected<std::unique_ptr<Communicator>> make_mpi_communicator(MpiEnvironment& environment,
                                                                    MpiOptions options) {
  BERYL_ASSERT(environment.size() >= 1, "MPI is not initialised");
  std::array<MPI_Comm, 2> handles{MPI_COMM_NULL, MPI_COMM_NULL};
  for (MPI_Comm& handle : handles) {
    const int code = MPI_Comm_dup(MPI_COMM_WORLD, &handle);
    if (code != MPI_SUCCESS) {
      return base::Error{base::ErrorCode::kUnavailable, mpi_error_text(code), {}, {}};
    }
    MPI_Comm_set_errhandler(handle, MPI_ERRORS_RETURN);
  }
  return std::unique_ptr<Communicator>(
      std::make_unique<MpiCommunicator>(handles[0], handles[1], environment, options));
}

}  // namespace beryl::comm
