// Load on a chat endpoint: closed loop (a fixed number of connections, each sends its next request
// when the last answer is complete) or open loop (requests start at a fixed rate, whatever the
// server does). One thread, so that its share of the machine can be stated.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "bench/load/percentiles.h"
#include "parallel/base/expected.h"

namespace beryl::load {

struct LoadOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;
  std::string api_key;
  std::string model = "default";
  std::string prompt = "Say something.";
  int concurrency = 32;     // connections
  double rate = 0;          // requests/s; 0 = closed loop
  double stream_share = 1;  // of requests, in [0, 1]; the others wait for the whole answer
  int max_tokens = 32;
  std::chrono::milliseconds warmup{1000};
  std::chrono::milliseconds duration{10'000};
  std::chrono::milliseconds request_deadline{60'000};
};

// Of the requests that started after the warm-up and ended before the end.
struct LoadReport {
  double seconds = 0;
  uint64_t requests = 0;
  uint64_t errors = 0;         // status other than 200, broken responses, deadlines
  uint64_t rejected = 0;       // of these: 429 or 503
  uint64_t events = 0;         // server-sent events
  uint64_t late_starts = 0;    // open loop: no free connection at the request's time
  Percentiles first_event_ms;  // streams: request sent until the first event after the role chunk
  Percentiles total_ms;
  double client_cpu_seconds = 0;
};

// Sends one streamed and one whole request with temperature 0 and checks that both answers are well
// formed and hold the same text. Run before measuring.
base::Status verify_endpoint(const LoadOptions& options);

LoadReport run_load(const LoadOptions& options);

}  // namespace beryl::load
