#include "bench/serve/server_metrics.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

namespace beryl::load {
namespace {

constexpr std::chrono::seconds kMetricsDeadline{2};
constexpr const char* kGauges[] = {"vllm:kv_cache_usage_perc", "vllm:num_requests_running",
                                   "vllm:num_requests_waiting"};
constexpr const char* kCounters[] = {"vllm:num_preemptions_total", "vllm:prompt_tokens_total",
                                     "vllm:generation_tokens_total"};

}  // namespace

std::map<std::string, double> parse_metrics(std::string_view text) {
  std::map<std::string, double> values;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const size_t space = line.rfind(' ');
    if (line.empty() || line.front() == '#' || space == std::string_view::npos) continue;
    const std::string name(line.substr(0, line.find_first_of("{ ")));
    if (name.ends_with("_bucket")) continue;
    values[name] += std::strtod(std::string(line.substr(space + 1)).c_str(), nullptr);
  }
  return values;
}

ServerMetrics::ServerMetrics(Endpoint endpoint) : endpoint_(std::move(endpoint)) {
  take();
  thread_ = std::jthread([this](const std::stop_token& token) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    while (!changed.wait_for(lock, token, kInterval, [] { return false; }) &&
           !token.stop_requested()) {
      take();
    }
  });
}

void ServerMetrics::take() {
  const Reply reply = fetch(endpoint_, "/metrics", {}, kMetricsDeadline);
  if (reply.status != 200) return;
  last_ = parse_metrics(reply.body);
  if (num_samples_++ == 0) first_ = last_;
  for (const char* name : kGauges) {
    if (last_.contains(name)) highest_[name] = std::max(highest_[name], last_[name]);
  }
}

void ServerMetrics::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

nlohmann::json ServerMetrics::finish() {
  stop();
  take();
  nlohmann::json report;
  for (const char* name : kCounters) {
    if (last_.contains(name)) report[name] = last_[name] - first_[name];
  }
  for (const auto& [name, value] : highest_) report["max " + name] = value;
  return report;
}

}  // namespace beryl::load
