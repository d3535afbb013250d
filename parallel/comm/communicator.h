// Communicator: how the ranks of one group exchange rows. Back ends: `local` (ranks are threads of
// one process), `mpi` (ranks are processes), `nccl` (GPUs).
//
// Every call is collective: all ranks call the same operations in the same order. Nothing waits
// without a deadline; when a peer is lost or late, the call returns kUnavailable and the
// communicator is dead (the epoch ends). One thread a rank issues all calls. Waits yield the core,
// because ranks may outnumber cores.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>

#include "parallel/base/expected.h"

namespace beryl::comm {

constexpr std::chrono::milliseconds kDefaultCollectiveDeadline{30'000};

// Exchanges a rank may have under way. They are waited for in the order in which they were started,
// and other collectives run only while none is under way (both checked).
constexpr int kMaxOutstandingExchanges = 2;

// Byte ranges for an all-to-all. Peer p gets send[send_offsets[p] .. send_offsets[p + 1]) and fills
// recv[recv_offsets[p] .. recv_offsets[p + 1]). Buffers stay alive and untouched until wait().
struct ExchangeBuffers {
  const std::byte* send = nullptr;
  std::span<const size_t> send_offsets;  // [size + 1]
  std::byte* recv = nullptr;
  std::span<const size_t> recv_offsets;  // [size + 1]
};

// An exchange under way. wait() returns when this rank's receives are complete and its sends may be
// overwritten. Must be waited for exactly once; dropping one unwaited kills the communicator, which
// it must not outlive.
class PendingExchange {
 public:
  virtual ~PendingExchange() = default;
  virtual base::Status wait() = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  virtual base::Expected<std::unique_ptr<PendingExchange>> start_all_to_all_v(
      const ExchangeBuffers& buffers) = 0;

  // recv = the `send` of every rank in rank order; recv.size() == size * send.size().
  virtual base::Status all_gather(std::span<const std::byte> send, std::span<std::byte> recv) = 0;

  virtual base::Status barrier() = 0;

  // Makes every pending and later call of this rank fail, and lets peers notice. Any thread.
  virtual void abort() noexcept = 0;
};

}  // namespace beryl::comm
