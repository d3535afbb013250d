// RankModel: everything that one rank needs to execute steps, built in order of life: operations,
// weights, expert exchange, cache, decoder.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kernels/ops.h"
#include "parallel/base/log.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/expert/placement.h"
#include "parallel/wire/cluster.pb.h"
#include "worker/cache/kv_cache.h"
#include "worker/model/decoder.h"
#include "worker/model/model_config.h"
#include "worker/model/vision_tower.h"
#include "worker/service/memory_plan.h"
#include "worker/service/worker_options.h"
#include "worker/weights/model_weights.h"

namespace beryl::service {

// What all ranks of a launch use; agreed before anything is loaded.
struct LaunchPlan {
  std::string launch_id;
  cache::KvCacheSize cache;
  uint32_t max_model_len = 0;
  uint64_t fingerprint = 0;
  MemoryPlan memory;  // of this rank alone
};

// Collective. Sizes are the least of all ranks, the launch id is that of rank 0. Throws
// std::runtime_error when the ranks hold different models or the cache is too small.
LaunchPlan agree_on_launch(const WorkerOptions& options, const model::ModelConfig& config,
                           comm::Communicator& communicator, int num_local_ranks);

class RankModel {
 public:
  // All references must outlive it. Throws weights::LoadError, kernels::DeviceError.
  RankModel(const WorkerOptions& options, const model::ModelConfig& config, const LaunchPlan& plan,
            comm::Communicator& communicator, int num_threads);
  RankModel(const RankModel&) = delete;
  RankModel& operator=(const RankModel&) = delete;

  model::Decoder& decoder() { return decoder_; }
  // Null: this rank takes no pictures.
  model::VisionTower* vision_tower() { return vision_tower_ ? &*vision_tower_ : nullptr; }
  kernels::Ops& ops() { return *ops_; }
  const cache::KvCache& cache() const { return cache_; }
  size_t weight_bytes() const { return weights_.num_bytes(); }

 private:
  std::unique_ptr<kernels::Ops> ops_;
  expert::Placement placement_;
  weights::ModelWeights weights_;
  expert::ExpertExchange exchange_;
  cache::KvCache cache_;
  model::Decoder decoder_;
  std::optional<model::VisionTower> vision_tower_;
};

// What the coordinator learns; `num_ranks` and `rank` of the communicator.
wire::Registration make_registration(const WorkerOptions& options, const model::ModelConfig& config,
                                     const LaunchPlan& plan, const comm::Communicator& communicator,
                                     const std::string& device);

}  // namespace beryl::service
