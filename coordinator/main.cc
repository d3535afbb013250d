// beryl-coordinator: HTTP in front, groups of workers behind.
#include <signal.h>

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "coordinator/api/generation_config.h"
#include "coordinator/api/routes.h"
#include "coordinator/api/server_context.h"
#include "coordinator/cluster/cluster.h"
#include "coordinator/coordinator_options.h"
#include "coordinator/http/server.h"
#include "coordinator/metrics/process_metrics.h"
#include "coordinator/metrics/server_metrics.h"
#include "coordinator/text/chat_format.h"
#include "coordinator/text/template_revision.h"
#include "coordinator/text/tokenizer.h"

namespace beryl {
namespace {

constexpr int kExitCannotStart = 1;
// For answers that are complete to reach their clients.
constexpr std::chrono::milliseconds kFlushDeadline{2'000};

template <typename T>
T or_throw(base::Expected<T> value) {
  if (!value) throw std::runtime_error(value.error().message);
  return *std::move(value);
}

// Blocked in all threads; taken by wait_for_stop().
sigset_t block_stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGTERM, SIGINT}) sigaddset(&signals, number);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

const char* wait_for_stop(const sigset_t& signals) {
  int number = 0;
  while (sigwait(&signals, &number) != 0) {
  }
  return number == SIGTERM ? "SIGTERM" : "SIGINT";
}

api::ServerOptions api_options(const CoordinatorOptions& options) {
  const auto config = or_throw(api::load_generation_config(options.model_dir));
  api::ServerOptions out;
  out.served_model_names = options.served_model_names;
  out.version = BERYL_VERSION;
  out.api_keys = options.api_keys;
  out.metrics_need_key = options.metrics_need_key;
  out.sampling = api::merge({}, config.sampling);
  out.eos_token_ids = config.eos_token_ids;
  out.enable_thinking = options.enable_thinking;
  out.media = options.media;
  out.request_timeout = std::chrono::seconds(options.request_timeout_s);
  return out;
}

http::ServerConfig http_config(const CoordinatorOptions& options) {
  http::ServerConfig config;
  config.host = options.host;
  config.port = options.port;
  config.num_io_threads = options.num_io_threads;
  config.cors.allowed_origins = options.allowed_origins;
  return config;
}

text::ChatFormat load_chat_format(const CoordinatorOptions& options,
                                  const text::Tokenizer& tokenizer, base::Logger& log) {
  const auto check = or_throw(text::check_chat_template(options.tokenizer_dir));
  if (const std::string warning = text::template_warning(check); !warning.empty()) {
    log.warning("{}", warning);
  }
  return or_throw(text::ChatFormat::create(tokenizer, check.revision));
}

void run(const CoordinatorOptions& options, base::Logger& log) {
  const sigset_t signals = block_stop_signals();
  const wire::Secret secret = or_throw(wire::Secret::load(options.secret_file));
  const auto tokenizer = or_throw(text::Tokenizer::load(options.tokenizer_dir + "/tokenizer.json"));
  const text::ChatFormat chat_format = load_chat_format(options, *tokenizer, log);

  metrics::Registry registry;
  metrics::add_process_metrics(registry);
  metrics::ServerMetrics server_metrics(registry, options.served_model_names.front());
  cluster::EventLog events(options.event_fd);
  cluster::Cluster cluster(options.cluster, {secret, log, events, server_metrics});

  api::ServerContext context{cluster,        *tokenizer,           chat_format,
                             server_metrics, api_options(options), log};
  http::Router router;
  http::ServerHooks hooks = api::register_routes(router, context);
  http::Server server({http_config(options), std::move(hooks), std::move(router)},
                      server_metrics.http(), log);
  if (auto status = server.start(); !status) throw std::runtime_error(status.error().message);
  log.info("HTTP on {}:{}, workers on {}:{}", options.host, server.port(),
           options.cluster.worker_host, cluster.worker_port());
  events.listening(server.port(), cluster.worker_port());

  log.info("{}: finishing the requests that run", wait_for_stop(signals));
  server.begin_drain();
  const size_t num_left = cluster.drain(std::chrono::seconds(options.shutdown_timeout_s));
  if (num_left > 0) log.warning("{} requests did not end in time", num_left);
  (void)server.drain(kFlushDeadline);
  server.stop();
  cluster.shut_down();
}

}  // namespace
}  // namespace beryl

int main(int argc, char** argv) {
  const auto parsed = beryl::parse_coordinator_options(argc, argv);
  if (!parsed.run) return parsed.exit_code;
  beryl::base::Logger log("coordinator", parsed.options.log_level, parsed.options.log_format);
  try {
    beryl::run(parsed.options, log);
  } catch (const std::exception& error) {
    log.error("{}", error.what());
    return beryl::kExitCannotStart;
  }
  return 0;
}
