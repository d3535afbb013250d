#include "worker/service/rank_worker.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "parallel/base/progress.h"
#include "parallel/wire/connection.h"
#include "worker/engine/rank_feature_jobs.h"
#include "worker/engine/step_executor.h"
#include "worker/service/memory_report.h"
#include "worker/service/plan_loop.h"
#include "worker/service/rank_device.h"
#include "worker/service/warm_up.h"

namespace beryl::service {
namespace {

constexpr int kExitStuck = 3;  // as for any epoch that was lost

int threads_per_rank(const WorkerOptions& options, int num_local_ranks) {
  if (options.threads > 0) return options.threads;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, cores / std::max(1, num_local_ranks));
}

}  // namespace

SessionEnd RankWorker::run() {
  const auto config =
      model::load_model_config(std::filesystem::path(context_.options.model_dir) / "config.json");
  check_device(context_.options, context_.communicator.size());
  const LaunchPlan plan =
      agree_on_launch(context_.options, config, context_.communicator, context_.num_local_ranks);
  // One table is enough: ranks take about the same.
  if (context_.communicator.rank() == 0) log_memory(config, plan);
  const int num_threads = threads_per_rank(context_.options, context_.num_local_ranks);
  RankModel model(context_.options, config, plan, context_.communicator, num_threads);
  log_start(plan, model.weight_bytes());
  if (!model.ops().memory_is_host()) {
    warm_up(model, config, context_.options.max_num_batched_tokens);
    log_memory_check(plan, model);
  }

  const wire::Registration registration =
      make_registration(context_.options, config, plan, context_.communicator,
                        describe_device(context_.options, num_threads));
  SessionEnd end;
  const std::shared_ptr<Session> session = join(registration, end);
  if (!session) return end;
  serve(*session, model, registration);
  session->leave();
  // Whatever ended the session first, for instance the coordinator's answer to the failure.
  if (device_failure_) return {false, *device_failure_, true};
  return session->ended();
}

void RankWorker::log_memory(const model::ModelConfig& config, const LaunchPlan& plan) {
  const CachePlan agreed = {.size = plan.cache, .max_model_len = plan.max_model_len};
  for (const std::string& line : memory_table(plan.memory, config, agreed)) {
    context_.log.info("{}", line);
  }
}

// What was planned is what is taken, or somebody hears of it.
void RankWorker::log_memory_check(const LaunchPlan& plan, const RankModel& model) {
  const RankMemory now = find_rank_memory(context_.options, context_.num_local_ranks);
  const MemoryCheck check = check_memory(plan.memory, model.cache().num_bytes(), now.free_bytes);
  const auto bytes = [](uint64_t num_bytes) {
    return base::format_bytes(static_cast<double>(num_bytes));
  };
  const std::string said =
      fmt::format("memory taken after the first steps: {}, planned {}; {} are free",
                  bytes(check.taken), bytes(check.planned), bytes(now.free_bytes));
  if (check.is_within()) {
    context_.log.info("{}", said);
  } else {
    context_.log.warning("{}: lower --gpu-memory-utilization, or let nobody else use the device",
                         said);
  }
}

void RankWorker::log_start(const LaunchPlan& plan, size_t weight_bytes) {
  context_.log.info("weights {} loaded, up to {} positions a request",
                    base::format_bytes(static_cast<double>(weight_bytes)), plan.max_model_len);
}

std::shared_ptr<Session> RankWorker::join(const wire::Registration& registration, SessionEnd& end) {
  const auto endpoint = wire::parse_endpoint(context_.options.coordinator);
  if (!endpoint) {
    end.reason = endpoint.error().message;
    return nullptr;
  }
  auto opened = Session::open({*endpoint, std::chrono::seconds(context_.options.connect_timeout_s)},
                              context_.secret, registration, context_.log);
  if (!opened) {
    end.reason = opened.error().message;
    return nullptr;
  }
  const std::shared_ptr<Session> session = *std::move(opened);
  {
    const std::lock_guard lock(mutex_);
    session_ = session;
    if (!stop_reason_.empty()) session->end({true, stop_reason_});
  }
  const auto welcome = session->wait_for_welcome();
  if (!welcome) {
    end = session->ended();
    return nullptr;
  }
  context_.log.info("epoch {} of group {}: ready", welcome->epoch(), context_.options.group);
  return session;
}

void RankWorker::serve(Session& session, RankModel& model, const wire::Registration& registration) {
  wire::GroupLimits limits;
  limits.epoch = session.epoch();
  limits.num_ranks = registration.num_ranks();
  limits.model = registration.model();
  limits.cache = registration.cache();
  // Shared with the hooks, which other threads may still run when this is left.
  const auto pictures = std::make_shared<engine::PictureStore>(session.step_deadline());
  // A lost coordinator also ends a collective that waits for ranks which know already, and a step
  // that waits for a picture.
  session.start({.on_end =
                     [this, pictures] {
                       context_.communicator.abort();
                       pictures->close();
                     },
                 .on_stuck =
                     [this] {
                       context_.log.error("the last step does not end; leaving it");
                       ::_exit(kExitStuck);
                     }});
  engine::DecoderPass pass(model.decoder());
  if (model.vision_tower() == nullptr) {
    engine::StepExecutor executor(pass, model.ops(), limits, registration.rank());
    run_plans(session, executor);
    return;
  }
  const auto bulk = open_bulk(session, limits, registration, *pictures);
  if (!bulk) return;
  engine::RankFeatureJobs jobs({.tower = *model.vision_tower(),
                                .ops = model.ops(),
                                .communicator = context_.communicator,
                                .pictures = *pictures,
                                .hidden_size = model.vision_tower()->hidden_size()});
  engine::StepExecutor executor(pass, model.ops(), limits, registration.rank(), &jobs);
  run_plans(session, executor);
}

std::unique_ptr<BulkSession> RankWorker::open_bulk(Session& session,
                                                   const wire::GroupLimits& limits,
                                                   const wire::Registration& registration,
                                                   engine::PictureStore& pictures) {
  wire::BulkRegistration who;
  who.set_launch_id(registration.launch_id());
  who.set_group(registration.group());
  who.set_rank(registration.rank());
  auto opened = BulkSession::open(
      {*wire::parse_endpoint(context_.options.coordinator), std::move(who), limits},
      context_.secret, pictures, [&session](const SessionEnd& end) { session.end(end); });
  if (opened) return *std::move(opened);
  session.end({false, "no connection for pictures: " + opened.error().message});
  return nullptr;
}

void RankWorker::run_plans(Session& session, engine::StepExecutor& executor) {
  device_failure_ = execute_plans(
      session, [&executor](const wire::StepPlan& plan) { return executor.execute(plan); });
}

void RankWorker::stop(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  stop_reason_ = reason;
  if (session_) session_->end({true, reason});
}

}  // namespace beryl::service
