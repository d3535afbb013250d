// Stands in for mpi_ranks.cc where MPI is not built.
#include <stdexcept>

#include "bench/model/mpi_ranks.h"

namespace beryl::bench {

bool is_mpi_job() {
  return false;
}

void run_mpi_rank(const std::function<void(comm::Communicator&)>&) {
  throw std::runtime_error("this build has no MPI");
}

}  // namespace beryl::bench
