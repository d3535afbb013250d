#include "worker/service/launch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "parallel/comm/local_communicator.h"
#include "worker/service/rank_worker.h"
#include "worker/service/stop_signals.h"
#ifdef BERYL_HAS_MPI
#include "parallel/comm/mpi/mpi_communicator.h"
#include "parallel/comm/mpi/mpi_environment.h"
#endif

namespace beryl::service {
namespace {

std::unique_ptr<base::Logger> make_log(const WorkerOptions& options, int rank) {
  return std::make_unique<base::Logger>(fmt::format("worker {}.{}", options.group, rank),
                                        options.log_level, options.log_format);
}

// Runs one rank to its end and says how it went. Nothing is thrown from here.
int run_rank(RankWorker& worker, base::Logger& log) noexcept {
  try {
    const SessionEnd end = worker.run();
    if (end.is_clean) {
      log.info("ended: {}", end.reason);
      return kExitClean;
    }
    if (end.device_failed) {
      log.error("the device failed, this process ends: {}", end.reason);
      return kExitDeviceFailed;
    }
    log.error("epoch over: {}", end.reason);
    return kExitEpochOver;
  } catch (const std::exception& error) {
    log.error("{}", error.what());
    return kExitCannotStart;
  }
}

}  // namespace

int run_thread_ranks(const WorkerOptions& options, const wire::Secret& secret, int num_ranks) {
  const auto communicators = comm::make_local_group(
      num_ranks, {.deadline = std::chrono::seconds(options.collective_timeout_s)});
  std::vector<std::unique_ptr<base::Logger>> logs;
  std::vector<std::unique_ptr<RankWorker>> workers;
  for (int rank = 0; rank < num_ranks; ++rank) {
    logs.push_back(make_log(options, rank));
    workers.push_back(std::make_unique<RankWorker>(RankContext{
        options, secret, *communicators[static_cast<size_t>(rank)], *logs.back(), num_ranks}));
  }
  const auto stop_all = [&workers](const std::string& reason) {
    for (const auto& worker : workers) worker->stop(reason);
  };
  const StopSignals signals(stop_all);
  std::vector<int> exit_codes(static_cast<size_t>(num_ranks), kExitClean);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < workers.size(); ++rank) {
    threads.emplace_back([&, rank] {
      exit_codes[rank] = run_rank(*workers[rank], *logs[rank]);
      communicators[rank]->abort();
      stop_all("another rank of this process ended");
    });
  }
  for (std::thread& thread : threads) thread.join();
  return *std::max_element(exit_codes.begin(), exit_codes.end());
}

bool is_started_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

#ifdef BERYL_HAS_MPI
namespace {

int num_local_mpi_ranks(int num_ranks) {
  const char* text = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  const int local = text != nullptr ? std::atoi(text) : num_ranks;
  return std::clamp(local, 1, num_ranks);
}

}  // namespace

int run_mpi_rank(const WorkerOptions& options, const wire::Secret& secret, int* argc,
                 char*** argv) {
  std::atomic<RankWorker*> running{nullptr};
  const StopSignals signals([&running](const std::string& reason) {
    RankWorker* worker = running.load();
    if (worker == nullptr) ::_exit(kExitClean);
    worker->stop(reason);
  });
  auto environment = comm::MpiEnvironment::create(argc, argv);
  if (!environment) {
    base::Logger("worker").error("{}", environment.error().message);
    return kExitCannotStart;
  }
  const auto log = make_log(options, (*environment)->rank());
  auto communicator = comm::make_mpi_communicator(
      **environment, {.deadline = std::chrono::seconds(options.collective_timeout_s)});
  if (!communicator) {
    log->error("{}", communicator.error().message);
    (*environment)->abandon();
    return kExitCannotStart;
  }
  RankWorker worker(RankContext{options, secret, **communicator, *log,
                                num_local_mpi_ranks((*environment)->size())});
  running.store(&worker);
  const int exit_code = run_rank(worker, *log);
  running.store(nullptr);
  if (exit_code == kExitClean) return exit_code;
  (*communicator)->abort();
  (*environment)->abandon();
  // Not the way through destructors: buffers of a failed exchange may still be in use by MPI.
  ::_exit(exit_code);
}
#else
int run_mpi_rank(const WorkerOptions& options, const wire::Secret&, int*, char***) {
  make_log(options, 0)
      ->error(
          "started by mpirun, but built without MPI: install libopenmpi-dev and build again, or "
          "use "
          "--ranks-as-threads");
  return kExitCannotStart;
}
#endif

}  // namespace beryl::service
