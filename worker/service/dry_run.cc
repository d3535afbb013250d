#include "worker/service/dry_run.h"

#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

#include "parallel/base/log.h"
#include "worker/model/model_config.h"
#include "worker/service/launch.h"
#include "worker/service/memory_report.h"
#include "worker/service/rank_device.h"

namespace beryl::service {
namespace {

void check(const WorkerOptions& options, int num_ranks) {
  check_device_options(options, num_ranks);
  if (options.device_memory > 0) return;
  try {
    check_device(options, num_ranks);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(
        fmt::format("{}\nTo plan for a device that is not here: --device-memory SIZE, e.g. 80GB",
                    error.what()));
  }
}

}  // namespace

int run_dry(const WorkerOptions& options, int num_ranks) {
  try {
    const auto config =
        model::load_model_config(std::filesystem::path(options.model_dir) / "config.json");
    check(options, num_ranks);
    const MemoryPlan plan =
        plan_memory(options, config, find_rank_memory(options, num_ranks), num_ranks);
    fmt::print("{}", dry_run_report(plan, options, config, num_ranks));
    return kExitClean;
  } catch (const std::runtime_error& error) {
    base::Logger("worker", options.log_level, options.log_format).error("{}", error.what());
    return kExitCannotStart;
  }
}

}  // namespace beryl::service
