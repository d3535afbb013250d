// The point-to-point messages of one collective on one rank.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::comm {

std::string mpi_error_text(int code);

class MpiTransfer {
 public:
  explicit MpiTransfer(int num_peers);

  // Receives before sends. Each message is at most kMaxMpiPartBytes.
  base::Status receive(MPI_Comm comm, int peer, int tag, std::span<std::byte> part);
  base::Status send(MPI_Comm comm, int peer, int tag, std::span<const std::byte> part);

  // True once all messages are through and had the expected sizes. Never waits.
  base::Expected<bool> poll();

  // Gives up. Afterwards MPI writes no more to the receive buffers, unless a message was half
  // through and its rest does not come within kCancelDeadline; sends cannot be taken back.
  void cancel() noexcept;

 private:
  base::Status check_sizes() const;

  std::vector<MPI_Request> requests_;  // receives, then sends
  std::vector<MPI_Status> statuses_;
  std::vector<int> recv_bytes_;  // of each receive
};

}  // namespace beryl::comm
