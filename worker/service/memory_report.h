// A memory plan for people: the table at start, and what --dry-run prints.
#pragma once

#include <string>
#include <vector>

#include "worker/service/memory_plan.h"

namespace beryl::service {

// One line each: what is there, what every part takes, the KV cache in bytes, tokens and requests.
// `cache` may be smaller than the plan's, where other ranks have less.
std::vector<std::string> memory_table(const MemoryPlan& plan, const model::ModelConfig& config,
                                      const CachePlan& cache);

// The table, or what is missing, and what each option costs.
std::string dry_run_report(const MemoryPlan& plan, const WorkerOptions& options,
                           const model::ModelConfig& config, int num_ranks);

}  // namespace beryl::service
