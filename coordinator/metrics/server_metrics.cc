#include "coordinator/metrics/server_metrics.h"

#include <fmt/format.h>

#include <utility>

#include "coordinator/metrics/buckets.h"
#include "coordinator/metrics/process_metrics.h"

namespace beryl::metrics {

struct ServerMetrics::EngineFamilies {
  explicit EngineFamilies(Registry& registry) : registry_(registry) {}

  Family<Gauge>& gauge(const char* name, const char* help) {
    return registry_.gauge({name, help, {"model_name", "engine"}});
  }
  Family<Counter>& counter(const char* name, const char* help) {
    return registry_.counter({name, help, {"model_name", "engine"}});
  }
  Family<Histogram>& histogram(const char* name, const char* help, std::vector<double> bounds) {
    return registry_.histogram({name, help, {"model_name", "engine"}}, std::move(bounds));
  }

  Registry& registry_;
  Family<Gauge>& running = gauge("vllm:num_requests_running", "Requests in the running batch.");
  Family<Gauge>& waiting = gauge("vllm:num_requests_waiting", "Requests waiting to be scheduled.");
  Family<Gauge>& kv_usage =
      gauge("vllm:kv_cache_usage_perc", "Share of KV cache memory in use, 0 to 1.");
  Family<Gauge>& healthy = gauge("vllm:engine_healthy", "1 while the group can work.");
  Family<Counter>& prompt_tokens = counter("vllm:prompt_tokens_total", "Prompt tokens processed.");
  Family<Counter>& generation_tokens = counter("vllm:generation_tokens_total", "Tokens generated.");
  Family<Counter>& preemptions =
      counter("vllm:num_preemptions_total", "Requests preempted for lack of KV cache blocks.");
  Family<Counter>& success = registry_.counter({"vllm:request_success_total",
                                                "Requests that ended, by reason.",
                                                {"model_name", "engine", "finished_reason"}});
  Family<Histogram>& ttft = histogram("vllm:time_to_first_token_seconds", "Arrival to first token.",
                                      first_token_buckets_s());
  Family<Histogram>& itl = histogram("vllm:inter_token_latency_seconds", "Time between tokens.",
                                     inter_token_buckets_s());
  Family<Histogram>& tpot =
      histogram("vllm:request_time_per_output_token_seconds",
                "Mean time per token after the first, per request.", inter_token_buckets_s());
  Family<Histogram>& e2e =
      histogram("vllm:e2e_request_latency_seconds", "Arrival to last token.", latency_buckets_s());
  Family<Histogram>& queue = histogram("vllm:request_queue_time_seconds",
                                       "Time in the waiting queue.", latency_buckets_s());
  Family<Histogram>& prefill = histogram("vllm:request_prefill_time_seconds",
                                         "Scheduled to first token.", latency_buckets_s());
  Family<Histogram>& decode =
      histogram("vllm:request_decode_time_seconds", "First to last token.", latency_buckets_s());
  Family<Histogram>& inference = histogram("vllm:request_inference_time_seconds",
                                           "Scheduled to last token.", latency_buckets_s());
  Family<Histogram>& prompt_len =
      histogram("vllm:request_prompt_tokens", "Prompt tokens per request.", token_buckets());
  Family<Histogram>& output_len =
      histogram("vllm:request_generation_tokens", "Generated tokens per request.", token_buckets());
  Family<Histogram>& iteration =
      histogram("vllm:iteration_tokens_total", "Tokens per step.", token_buckets());
  Family<Histogram>& step =
      histogram("beryl_step_seconds", "Duration of steps.", short_buckets_s());
  Family<Counter>& epochs = counter("beryl_epochs_total", "Incarnations of the group.");
  Family<Counter>& replayed =
      counter("beryl_requests_replayed_total", "Requests continued after their epoch was lost.");
};

ServerMetrics::ServerMetrics(Registry& registry, std::string model_name)
    : registry_(registry),
      model_name_(std::move(model_name)),
      families_(std::make_unique<EngineFamilies>(registry)) {
  http_.reset(new HttpMetrics{
      registry.counter(
          {"http_requests_total", "Requests answered.", {"handler", "method", "status"}}),
      registry.histogram(
          {"http_request_duration_seconds", "Request head read to last byte written.", {"handler"}},
          short_buckets_s()),
      registry.counter({"beryl_http_rejected_total", "Requests turned away.", {"reason"}}),
      registry.counter({"beryl_http_limit_reached_total", "Limits that were hit.", {"limit"}}),
      registry.gauge({"beryl_http_connections", "Open connections.", {}}).with({}),
      registry.gauge({"beryl_http_body_in_flight_bytes", "Request bodies held.", {}}).with({}),
      registry.counter({"beryl_http_connections_accepted_total", "Connections accepted.", {}})
          .with({}),
      registry.counter({"beryl_http_accept_errors_total", "Failed accepts.", {}}).with({}),
      registry.counter({"beryl_sse_slow_client_closes_total", "Streams cut: slow reader.", {}})
          .with({}),
      registry.counter({"beryl_client_disconnects_total", "Clients gone during a request.", {}})
          .with({}),
      registry.gauge({"beryl_worker_pool_queue_length", "Jobs waiting for a pool thread.", {}})
          .with({}),
      registry
          .gauge({"beryl_slow_worker_pool_queue_length",
                  "Downloads and pictures waiting for a pool thread.",
                  {}})
          .with({}),
  });
  const LabelValues model = {model_name_};
  api_.reset(new ApiMetrics{
      registry.counter({"beryl_aborts_total", "Generations cancelled by us.", {"cause"}}),
      registry
          .histogram({"vllm:request_params_n", "Choices asked for.", {"model_name"}},
                     choice_buckets())
          .with(model),
      registry
          .histogram({"vllm:request_params_max_tokens", "max_tokens asked for.", {"model_name"}},
                     token_buckets())
          .with(model),
      registry.counter({"beryl_sse_events_total", "Server-sent events written.", {}}).with({}),
  });
  add_process_metrics(registry);
}

ServerMetrics::~ServerMetrics() = default;

EngineMetrics& ServerMetrics::engine(uint32_t group) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<EngineMetrics>& engine = engines_[group];
  if (engine) return *engine;
  EngineFamilies& families = *families_;
  const LabelValues labels = {model_name_, fmt::format("{}", group)};
  const auto finished = [&](const char* reason) -> Counter& {
    return families.success.with({labels[0], labels[1], reason});
  };
  engine.reset(new EngineMetrics{
      families.running.with(labels),
      families.waiting.with(labels),
      families.kv_usage.with(labels),
      families.healthy.with(labels),
      families.prompt_tokens.with(labels),
      families.generation_tokens.with(labels),
      families.preemptions.with(labels),
      finished("stop"),
      finished("length"),
      finished("abort"),
      finished("error"),
      families.ttft.with(labels),
      families.itl.with(labels),
      families.tpot.with(labels),
      families.e2e.with(labels),
      families.queue.with(labels),
      families.prefill.with(labels),
      families.decode.with(labels),
      families.inference.with(labels),
      families.prompt_len.with(labels),
      families.output_len.with(labels),
      families.iteration.with(labels),
      families.step.with(labels),
      families.epochs.with(labels),
      families.replayed.with(labels),
  });
  return *engine;
}

}  // namespace beryl::metrics
