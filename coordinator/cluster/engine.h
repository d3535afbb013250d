// Engine: what the API layer sees of the cluster. Implemented by Cluster (real groups) and by a
// mock for tests and benchmarks of the front end.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/media/prepared_image.h"
#include "coordinator/scheduler/request.h"
#include "parallel/base/expected.h"

namespace beryl::cluster {

// One completion (with n > 1 the API submits one per choice, all with the same seed).
struct GenerationRequest {
  std::vector<int32_t> prompt_token_ids;
  // By position; needs ModelFacts::accepts_media. Images are kept until the request has ended.
  std::vector<media::PlacedImage> media;
  scheduler::SamplingParams sampling;
  uint32_t max_tokens = 0;
  std::vector<int32_t> stop_token_ids;
  std::chrono::steady_clock::time_point deadline;  // default-constructed = none
  int32_t priority = 0;
};

// Events of one request, in order, the last one with `finished`. Called on an engine thread: must
// be quick and must not block (it posts to the connection's executor).
using EventSink = std::function<void(const scheduler::SchedulerEvent&)>;

struct ModelFacts {
  uint32_t vocab_size = 0;
  uint32_t max_model_len = 0;
  uint32_t sliding_window = 0;
  bool accepts_media = false;       // requests may carry pictures
  uint32_t max_picture_tokens = 0;  // soft tokens of one of them
};

enum class EngineState {
  kStarting,  // no group yet, since start
  kReady,     // a group is there and has completed a step (or a canary) lately
  kDegraded,  // no group now, but there was one: requests wait for it
  kDraining,  // shutting down: no new requests
};

struct RankStatus {
  uint32_t rank = 0;
  std::string host;
  int64_t pid = 0;
  std::string device;
  int64_t last_heartbeat_ms = 0;  // age
};

struct GroupStatus {
  uint32_t group = 0;
  uint64_t epoch = 0;  // 0 = not there
  std::string state;   // "waiting for workers", "ready", "lost: <why>"
  uint32_t num_waiting = 0;
  uint32_t num_running = 0;
  double kv_usage = 0;  // [0, 1] of the fuller pool
  uint64_t steps = 0;
  std::vector<RankStatus> ranks;
};

struct EngineStatus {
  EngineState state = EngineState::kStarting;
  std::vector<GroupStatus> groups;
  double retry_after_s = 1;  // from the measured drain rate; for 429 and 503
};

class Engine {
 public:
  virtual ~Engine() = default;

  // kQueueFull, kUnavailable (no group yet, or draining), kInvalidArgument (can never fit). On
  // success `sink` gets events until the finished one. Thread-safe.
  virtual base::Expected<scheduler::RequestId> submit(GenerationRequest request,
                                                      EventSink sink) = 0;
  // The sink gets kAborted (unless it has finished already). Thread-safe, unknown ids are ignored.
  virtual void cancel(scheduler::RequestId request) = 0;

  // kUnavailable until the first group has registered. Thread-safe.
  virtual base::Expected<ModelFacts> model() const = 0;
  virtual EngineStatus status() const = 0;
};

}  // namespace beryl::cluster
