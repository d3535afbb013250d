// The measured part of a serving benchmark: sends streamed requests, checks every answer, and keeps
// what each of them took. One thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "bench/serve/endpoint.h"
#include "bench/serve/prompts.h"
#include "bench/serve/stream_account.h"

namespace beryl::load {

struct ServeOptions {
  Endpoint endpoint;
  std::string model;
  EndpointType type = EndpointType::kChat;
  int output_tokens = 128;
  bool ignore_eos = false;  // the server must give exactly output_tokens then
  double temperature = 0;
  int max_concurrency = 0;  // requests under way; 0: as many as there are
  double request_rate = 0;  // requests/s of a Poisson process; 0: all at once
  uint64_t seed = 0;
  std::chrono::seconds request_deadline{3600};
  std::string cache_salt;  // not empty: servers must not take another request's prefix for this one
};

struct RequestRecord {
  std::string error;  // empty: a right answer
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  double ttft_ms = 0;          // request sent until the first text
  double e2el_ms = 0;          // until the last event
  std::vector<double> itl_ms;  // between events with text
  std::string text;
};

struct ServeResult {
  double seconds = 0;  // first request sent until the last answer
  double client_cpu_seconds = 0;
  int late_starts = 0;  // requests that found max_concurrency others under way when they were due
  std::vector<RequestRecord> records;  // as the prompts
};

// Called after each answer.
using RecordListener = std::function<void(const RequestRecord&)>;

std::string request_body(const ServeOptions& options, const Prompt& prompt);

// What is wrong with an answer; empty: nothing.
std::string find_fault(const ServeOptions& options, const Prompt& prompt,
                       const StreamAccount& account);

ServeResult run_requests(const ServeOptions& options, std::span<const Prompt> prompts,
                         const RecordListener& listener = nullptr);

}  // namespace beryl::load
