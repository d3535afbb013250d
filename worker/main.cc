// beryl-worker: one rank, or several as threads.
#include <algorithm>

#include "parallel/base/log.h"
#include "parallel/wire/secret.h"
#include "worker/service/dry_run.h"
#include "worker/service/launch.h"
#include "worker/service/stop_signals.h"
#include "worker/service/worker_options.h"

int main(int argc, char** argv) {
  using namespace beryl;
  const auto parsed = service::parse_worker_options(argc, argv);
  if (!parsed.run) return parsed.exit_code;
  const service::WorkerOptions& options = parsed.options;
  if (options.dry_run) return service::run_dry(options, std::max(1, options.ranks_as_threads));
  service::end_with_parent();
  const auto secret = wire::Secret::load(options.secret_file);
  if (!secret) {
    base::Logger("worker", options.log_level, options.log_format)
        .error("{}", secret.error().message);
    return service::kExitUsage;
  }
  if (options.ranks_as_threads == 0 && service::is_started_by_mpi()) {
    return service::run_mpi_rank(options, *secret, &argc, &argv);
  }
  return service::run_thread_ranks(options, *secret, std::max(1, options.ranks_as_threads));
}
