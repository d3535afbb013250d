// The memory of one rank, planned before anything is loaded: what is there, what each part takes,
// and what is left for the KV cache. Pure arithmetic; rank_device.h asks the machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "worker/model/model_config.h"
#include "worker/service/cache_sizing.h"
#include "worker/service/worker_options.h"

namespace beryl::service {

// What is there.
struct RankMemory {
  bool is_device = false;
  std::string name;          // "cuda NVIDIA H100 80GB HBM3", "cpu"
  uint64_t total_bytes = 0;  // of the device; on the CPU this rank's share of what is available
  uint64_t free_bytes = 0;
};

enum class Taken : uint8_t {
  kNever,    // pages of files, which the system may drop
  kBefore,   // when the device was asked what is free
  kAtStart,  // up to the end of the warm-up
  kLater,    // while serving
};

struct MemoryPart {
  std::string name;
  uint64_t num_bytes = 0;
  Taken taken = Taken::kAtStart;
  bool is_mapped() const { return taken == Taken::kNever; }
};

struct MemoryPlan {
  RankMemory memory;
  uint64_t usable_bytes = 0;  // of it, for this rank
  std::vector<MemoryPart> parts;
  uint64_t fixed_bytes = 0;   // of the parts that are not mapped
  uint64_t cache_budget = 0;  // for the KV cache
  CacheRequest cache_request;
  CachePlan cache;  // empty where memory is missing
  uint64_t missing_bytes = 0;
};

// `num_ranks` share the experts.
MemoryPlan plan_memory(const WorkerOptions& options, const model::ModelConfig& config,
                       const RankMemory& memory, int num_ranks);

// What is missing, and what each option would give back: for a plan with missing_bytes.
std::string explain_missing(const MemoryPlan& plan, const WorkerOptions& options,
                            const model::ModelConfig& config, int num_ranks);

// What a device gave since the plan was made, up to the end of the warm-up.
struct MemoryCheck {
  uint64_t planned = 0;  // at start: without what comes while serving
  uint64_t taken = 0;
  bool is_within() const { return taken <= planned; }
};
MemoryCheck check_memory(const MemoryPlan& plan, uint64_t cache_bytes, uint64_t free_bytes);

// Soft tokens whose features this rank keeps: none for a model without a vision tower.
uint32_t num_feature_tokens(const WorkerOptions& options, const model::ModelConfig& config);

}  // namespace beryl::service
