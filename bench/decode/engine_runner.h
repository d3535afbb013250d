// EngineRunner: one rank's engine (plans, executor, decoder, sampler) without a server. It plays
// the coordinator: admits requests, hands out blocks, and makes the plans of steps.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "parallel/comm/communicator.h"
#include "parallel/expert/expert_exchange.h"
#include "parallel/wire/cluster.pb.h"
#include "worker/cache/kv_cache.h"
#include "worker/engine/forward_pass.h"
#include "worker/engine/step_executor.h"
#include "worker/model/decoder.h"

namespace beryl::bench {

struct EngineSize {
  int max_rows = 8192;    // of a step
  int max_requests = 64;  // live
  int max_length = 1024;  // positions of a request
  int block_size = 16;
};

// Pages that max_requests requests of max_length positions need at most.
cache::KvCacheSize cache_size(const model::ModelConfig& config, const EngineSize& size,
                              kernels::DType kv_dtype);

// Bytes of that cache.
size_t cache_bytes(const model::ModelConfig& config, const EngineSize& size,
                   kernels::DType kv_dtype);

// Everything must outlive the runner. The communicator has one rank.
struct EngineParts {
  const model::ModelConfig& config;
  const weights::ModelWeights& weights;
  kernels::Ops& ops;
  comm::Communicator& communicator;
  const expert::Placement& placement;
};

class EngineRunner {
 public:
  EngineRunner(const EngineParts& parts, const EngineSize& size);

  enum class Logprobs { kNone, kOfOutput, kOfPrompt };
  // A greedy request.
  int add(const std::vector<int32_t>& prompt, Logprobs logprobs = Logprobs::kNone);

  // The next positions of a request; the token that follows the last known one is drawn.
  struct Part {
    int handle = 0;
    int count = 0;
  };
  // Throws std::runtime_error where the engine reports an error. Valid until the next step.
  const wire::StepResult& step(std::span<const Part> parts, expert::StepMode mode,
                               model::LayerObserver* observer = nullptr);

  const EngineSize& size() const { return size_; }

  // Ends all requests, with the next step.
  void release_all();

 private:
  class ObservedPass final : public engine::ForwardPass {
   public:
    explicit ObservedPass(model::Decoder& decoder) : decoder_(decoder) {}
    base::Status forward(const model::DecoderBatch& batch) override {
      return decoder_.forward(batch, observer);
    }
    kernels::TensorView logits(int begin, int end) override { return decoder_.logits(begin, end); }
    int max_logits_rows() const override { return decoder_.limits().max_logits_rows; }

    model::LayerObserver* observer = nullptr;

   private:
    model::Decoder& decoder_;
  };
  struct Request {
    int num_tokens = 0;    // known
    int num_computed = 0;  // in the cache
    std::vector<int32_t> global_blocks;
    std::vector<int32_t> sliding_blocks;
    int first_live_sliding = 0;  // those before went back
  };

  void add_row(const Part& part);
  void free_behind_window(Request& request);
  int32_t take_page();

  const model::ModelConfig& config_;
  const EngineSize size_;
  expert::ExpertExchange exchange_;
  cache::KvCache cache_;
  model::Decoder decoder_;
  ObservedPass pass_;
  engine::StepExecutor executor_;
  std::map<int, Request> requests_;
  std::vector<int32_t> free_pages_;
  wire::StepPlan plan_;  // of the next step
  wire::StepResult result_;
};

}  // namespace beryl::bench
