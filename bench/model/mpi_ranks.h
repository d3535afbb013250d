// Ranks that are processes of an MPI job. Built without MPI, there never is such a job.
#pragma once

#include <functional>

#include "parallel/comm/communicator.h"

namespace beryl::bench {

// True when this process was started by mpirun as one of several.
bool is_mpi_job();

// Runs `rank_main` once, as this process's rank. Exceptions of it pass through.
void run_mpi_rank(const std::function<void(comm::Communicator&)>& rank_main);

}  // namespace beryl::bench
