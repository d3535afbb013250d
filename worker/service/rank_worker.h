// RankWorker: the life of one rank: load, register, execute steps until the epoch ends.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "parallel/base/log.h"
#include "parallel/comm/communicator.h"
#include "parallel/wire/secret.h"
#include "worker/engine/picture_store.h"
#include "worker/engine/step_executor.h"
#include "worker/service/bulk_session.h"
#include "worker/service/rank_model.h"
#include "worker/service/session.h"
#include "worker/service/worker_options.h"

namespace beryl::service {

struct RankContext {
  const WorkerOptions& options;
  const wire::Secret& secret;
  comm::Communicator& communicator;
  base::Logger& log;
  int num_local_ranks = 1;
};

class RankWorker {
 public:
  explicit RankWorker(const RankContext& context) : context_(context) {}
  RankWorker(const RankWorker&) = delete;
  RankWorker& operator=(const RankWorker&) = delete;

  // Collective. Returns how the epoch ended; throws what prevents a start (config, weights).
  SessionEnd run();

  // From any thread: leaves with a goodbye to the coordinator, or before it registers.
  void stop(const std::string& reason);

 private:
  std::shared_ptr<Session> join(const wire::Registration& registration, SessionEnd& end);
  void serve(Session& session, RankModel& model, const wire::Registration& registration);
  void run_plans(Session& session, engine::StepExecutor& executor);
  // Null after a failure, which has ended the session.
  std::unique_ptr<BulkSession> open_bulk(Session& session, const wire::GroupLimits& limits,
                                         const wire::Registration& registration,
                                         engine::PictureStore& pictures);
  void log_memory(const model::ModelConfig& config, const LaunchPlan& plan);
  void log_memory_check(const LaunchPlan& plan, const RankModel& model);
  void log_start(const LaunchPlan& plan, size_t weight_bytes);

  RankContext context_;
  std::mutex mutex_;
  std::string stop_reason_;
  std::shared_ptr<Session> session_;
  std::optional<std::string> device_failure_;
};

}  // namespace beryl::service
