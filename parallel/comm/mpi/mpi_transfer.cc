#include "parallel/comm/mpi/mpi_transfer.h"

#include <array>
#include <chrono>
#include <limits>

#include "parallel/base/assert.h"
#include "parallel/comm/mpi/backoff.h"
#include "parallel/comm/mpi/mpi_communicator.h"

namespace beryl::comm {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kCancelDeadline{100};
static_assert(kMaxMpiPartBytes <= std::numeric_limits<int>::max());

base::Error mpi_error(int code) {
  return base::Error{base::ErrorCode::kUnavailable, mpi_error_text(code), {}, {}};
}

}  // namespace

std::string mpi_error_text(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return {text.data(), static_cast<size_t>(length)};
}

MpiTransfer::MpiTransfer(int num_peers) {
  const auto most = static_cast<size_t>(2 * num_peers);
  requests_.reserve(most);
  recv_bytes_.reserve(most);
  statuses_.resize(most);
}

base::Status MpiTransfer::receive(MPI_Comm comm, int peer, int tag, std::span<std::byte> part) {
  BERYL_ASSERT(requests_.size() == recv_bytes_.size(), "a receive after a send");
  const int num_bytes = static_cast<int>(part.size());
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Irecv(part.data(), num_bytes, MPI_BYTE, peer, tag, comm, &request);
  if (code != MPI_SUCCESS) return mpi_error(code);
  requests_.push_back(request);
  recv_bytes_.push_back(num_bytes);
  return base::Status::ok();
}

base::Status MpiTransfer::send(MPI_Comm comm, int peer, int tag, std::span<const std::byte> part) {
  MPI_Request request = MPI_REQUEST_NULL;
  const int code =
      MPI_Isend(part.data(), static_cast<int>(part.size()), MPI_BYTE, peer, tag, comm, &request);
  if (code != MPI_SUCCESS) return mpi_error(code);
  requests_.push_back(request);
  return base::Status::ok();
}

base::Expected<bool> MpiTransfer::poll() {
  int done = 0;
  const int code =
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, statuses_.data());
  if (code == MPI_ERR_IN_STATUS) {
    if (base::Status status = check_sizes(); !status) return status.error();
  }
  if (code != MPI_SUCCESS) return mpi_error(code);
  if (done == 0) return false;
  if (base::Status status = check_sizes(); !status) return status.error();
  requests_.clear();
  recv_bytes_.clear();
  return true;
}

// Different sizes on the two sides are a mistake of ours: the ranks do different things.
base::Status MpiTransfer::check_sizes() const {
  for (size_t i = 0; i < recv_bytes_.size(); ++i) {
    const MPI_Status& status = statuses_[i];
    int num_bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &num_bytes);
    if (num_bytes == recv_bytes_[i]) continue;
    return base::Error{base::ErrorCode::kInternal,
                       fmt::format("rank {} sent {} bytes, {} were expected", status.MPI_SOURCE,
                                   num_bytes, recv_bytes_[i]),
                       {},
                       {}};
  }
  return base::Status::ok();
}

void MpiTransfer::cancel() noexcept {
  const auto start = Clock::now();
  for (size_t i = 0; i < requests_.size(); ++i) {
    MPI_Request& request = requests_[i];
    if (request == MPI_REQUEST_NULL) continue;
    if (i < recv_bytes_.size()) MPI_Cancel(&request);
    Backoff backoff(start);
    int done = 0;
    while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0) {
      const auto now = Clock::now();
      if (now - start > kCancelDeadline) break;
      backoff.pause(now);
    }
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }
  requests_.clear();
  recv_bytes_.clear();
}

}  // namespace beryl::comm
