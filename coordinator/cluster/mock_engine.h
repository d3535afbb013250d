// An Engine without a cluster: one thread that emits scripted tokens at a set pace. For tests and
// benchmarks of the front end.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "coordinator/cluster/engine.h"

namespace beryl::cluster {

struct MockEngineOptions {
  ModelFacts model{.vocab_size = 512, .max_model_len = 4096, .sliding_window = 1024};
  std::chrono::microseconds step_time{0};  // between steps; 0: none
  size_t max_running = 1024;
  size_t max_queued = 1024;
  // The tokens of a request. After them its first stop token ends it; without one they repeat.
  std::function<std::vector<int32_t>(const GenerationRequest&)> script;
};

class MockEngine final : public Engine {
 public:
  explicit MockEngine(MockEngineOptions options);
  ~MockEngine() override;

  base::Expected<scheduler::RequestId> submit(GenerationRequest request, EventSink sink) override;
  void cancel(scheduler::RequestId request) override;
  base::Expected<ModelFacts> model() const override;
  EngineStatus status() const override;

  void set_state(EngineState state) { state_ = state; }
  // While paused no step runs; cancellations are still answered.
  void set_paused(bool paused);
  // Ends every request with kError at the next step.
  void fail_all(std::string error);
  // Limits how many tokens all requests together may still emit; negative: no limit.
  void allow_tokens(int64_t count);

  size_t num_open() const;  // waiting or running
  uint64_t num_submitted() const { return num_submitted_; }
  uint64_t num_aborted() const { return num_aborted_; }
  uint64_t num_tokens() const { return num_tokens_; }
  GenerationRequest last_request() const;

 private:
  struct Running {
    scheduler::RequestId id = 0;
    GenerationRequest request;
    EventSink sink;
    std::vector<int32_t> script;
    size_t num_emitted = 0;
  };

  void run();
  void step(std::vector<Running>& running, const std::set<scheduler::RequestId>& cancelled,
            const std::string& error);
  // True when the request has ended.
  bool emit(Running& running);
  int32_t next_token(const Running& running) const;

  MockEngineOptions options_;
  std::atomic<EngineState> state_{EngineState::kReady};
  std::atomic<uint64_t> num_submitted_{0};
  std::atomic<uint64_t> num_aborted_{0};
  std::atomic<uint64_t> num_tokens_{0};
  std::atomic<int64_t> tokens_left_{-1};
  std::atomic<size_t> num_open_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Running> arrivals_;
  std::set<scheduler::RequestId> cancellations_;
  std::string failure_;
  GenerationRequest last_request_;
  bool paused_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace beryl::cluster
