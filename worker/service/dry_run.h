// --dry-run: what a start would plan, without loading anything.
#pragma once

#include "worker/service/worker_options.h"

namespace beryl::service {

// Prints the memory plan of a rank of `num_ranks`, all on this machine, and what options cost.
// Returns an exit code: also 0 where memory is missing, which the report says.
int run_dry(const WorkerOptions& options, int num_ranks);

}  // namespace beryl::service
