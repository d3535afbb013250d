// Runs the ranks of this process: one under mpirun, several threads, or one alone.
#pragma once

#include "parallel/base/log.h"
#include "parallel/wire/secret.h"
#include "worker/service/worker_options.h"

namespace beryl::service {

// Exit codes of beryl-worker, for launchers.
enum ExitCode : int {
  kExitClean = 0,        // goodbye of either side
  kExitCannotStart = 1,  // configuration, weights, memory
  kExitUsage = 2,
  kExitEpochOver = 3,     // the epoch was lost: start again
  kExitDeviceFailed = 4,  // the device failed in a step: start again, and look at it if it repeats
};

// True where this process was started by mpirun or an equivalent.
bool is_started_by_mpi();

// Ranks as threads of this process, each with its own connection. Blocks until all ranks ended.
int run_thread_ranks(const WorkerOptions& options, const wire::Secret& secret, int num_ranks);

// This process is one rank of an MPI job. Never returns normally after a failure: the process ends
// without MPI_Finalize, which would wait for ranks that are gone.
int run_mpi_rank(const WorkerOptions& options, const wire::Secret& secret, int* argc, char*** argv);

}  // namespace beryl::service
