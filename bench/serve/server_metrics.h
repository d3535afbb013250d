// ServerMetrics: what the server's own /metrics say while it is measured, by the names of vLLM.
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <thread>

#include "bench/serve/endpoint.h"

namespace beryl::load {

// name -> sum over all label sets. Histogram buckets are left out.
std::map<std::string, double> parse_metrics(std::string_view text);

class ServerMetrics {
 public:
  static constexpr std::chrono::milliseconds kInterval{500};

  // Asks on a thread of its own until finish().
  explicit ServerMetrics(Endpoint endpoint);
  ~ServerMetrics() { stop(); }
  ServerMetrics(const ServerMetrics&) = delete;
  ServerMetrics& operator=(const ServerMetrics&) = delete;

  // Null where /metrics does not answer; else preemptions of the time and the highest values seen.
  nlohmann::json finish();

 private:
  void take();
  void stop();

  const Endpoint endpoint_;
  std::map<std::string, double> first_;
  std::map<std::string, double> last_;
  std::map<std::string, double> highest_;
  size_t num_samples_ = 0;
  std::jthread thread_;
};

}  // namespace beryl::load
