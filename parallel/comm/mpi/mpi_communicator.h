// Ranks that are processes, over MPI point-to-point messages that are polled, so that every wait
// has a deadline and gives the core away (ranks may outnumber cores).
#pragma once

#include <chrono>
#include <memory>

#include "parallel/base/expected.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/mpi/mpi_environment.h"

namespace beryl::comm {

// Largest part for one peer in one exchange; a larger one is refused with kInvalidArgument.
constexpr size_t kMaxMpiPartBytes = (size_t{1} << 31) - 64;

struct MpiOptions {
  std::chrono::milliseconds deadline = kDefaultCollectiveDeadline;  // of each wait
};

// A communicator over all ranks of the job. Collective; `environment` must outlive it. A rank whose
// call fails, or that aborts, tells its peers, which then fail too. A process that ends is noticed
// by the launcher (Open MPI 4 ends the whole job) or by the deadline. Buffers of an exchange that
// failed may still be read by a peer: keep them until the process ends its epoch.
base::Expected<std::unique_ptr<Communicator>> make_mpi_communicator(MpiEnvironment& environment,
                                                                    MpiOptions options = {});

}  // namespace beryl::comm
