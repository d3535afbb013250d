#include "bench/model/mpi_ranks.h"

#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "parallel/comm/mpi/mpi_communicator.h"
#include "parallel/comm/mpi/mpi_environment.h"

namespace beryl::bench {

bool is_mpi_job() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMI_SIZE") != nullptr;
}

void run_mpi_rank(const std::function<void(comm::Communicator&)>& rank_main) {
  auto environment = comm::MpiEnvironment::create(nullptr, nullptr);
  if (!environment) throw std::runtime_error(environment.error().message);
  auto communicator = comm::make_mpi_communicator(**environment);
  if (!communicator) throw std::runtime_error(communicator.error().message);
  try {
    rank_main(**communicator);
  } catch (...) {
    (*communicator)->abort();
    (*environment)->abandon();
    throw;
  }
}

}  // namespace beryl::bench
