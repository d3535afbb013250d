// Every metric of the coordinator, by who updates it. Names that dashboards for vLLM know are kept
// (`vllm:*`, labels model_name and engine = group); ours are `beryl_*`.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "coordinator/metrics/registry.h"

namespace beryl::metrics {

// Updated by coordinator/cluster, one object per group.
struct EngineMetrics {
  Gauge& num_requests_running;
  Gauge& num_requests_waiting;
  Gauge& kv_cache_usage;  // [0, 1] of the pages of cache memory
  Gauge& healthy;         // 1 while the group can work
  Counter& prompt_tokens;
  Counter& generation_tokens;
  Counter& num_preemptions;
  Counter& finished_stop;
  Counter& finished_length;
  Counter& finished_abort;
  Counter& finished_error;
  Histogram& time_to_first_token_s;
  Histogram& inter_token_latency_s;
  Histogram& time_per_output_token_s;
  Histogram& e2e_latency_s;
  Histogram& queue_time_s;
  Histogram& prefill_time_s;
  Histogram& decode_time_s;
  Histogram& inference_time_s;
  Histogram& request_prompt_tokens;
  Histogram& request_generation_tokens;
  Histogram& iteration_tokens;
  Histogram& step_time_s;
  Counter& epochs;             // incarnations of the group
  Counter& requests_replayed;  // continued after their epoch was lost
};

// Updated by coordinator/http.
struct HttpMetrics {
  Family<Counter>& requests;        // handler, method, status
  Family<Histogram>& duration_s;    // handler
  Family<Counter>& rejected;        // reason: a limit or rule that turned a request away
  Family<Counter>& limits_reached;  // limit
  Gauge& connections;
  Gauge& body_bytes_in_flight;
  Counter& connections_accepted;
  Counter& accept_errors;
  Counter& sse_slow_client_closes;
  Counter& client_disconnects;  // while a request was being handled
  Gauge& worker_queue_length;
  Gauge& slow_worker_queue_length;
};

// Updated by coordinator/api.
struct ApiMetrics {
  Family<Counter>& aborts;  // cause: disconnect, slow_client, stop_string, shutdown
  Histogram& params_n;
  Histogram& params_max_tokens;
  Counter& sse_events;
};

class ServerMetrics {
 public:
  // `registry` must outlive this.
  ServerMetrics(Registry& registry, std::string model_name);
  ~ServerMetrics();
  ServerMetrics(const ServerMetrics&) = delete;
  ServerMetrics& operator=(const ServerMetrics&) = delete;

  // Made on first use; thread-safe; the reference stays valid.
  EngineMetrics& engine(uint32_t group);
  HttpMetrics& http() noexcept { return *http_; }
  ApiMetrics& api() noexcept { return *api_; }
  Registry& registry() noexcept { return registry_; }

 private:
  struct EngineFamilies;

  Registry& registry_;
  std::string model_name_;
  std::unique_ptr<EngineFamilies> families_;
  std::unique_ptr<HttpMetrics> http_;
  std::unique_ptr<ApiMetrics> api_;
  std::mutex mutex_;
  std::map<uint32_t, std::unique_ptr<EngineMetrics>> engines_;
};

}  // namespace beryl::metrics
