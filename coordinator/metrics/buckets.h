// Upper limits of histogram buckets, those that dashboards for vLLM expect.
#pragma once

#include <vector>

namespace beryl::metrics {

// Seconds to the first token: 1 ms to 2560 s.
std::vector<double> first_token_buckets_s();
// Seconds between tokens: 1 ms to 80 s.
std::vector<double> inter_token_buckets_s();
// Seconds of whole requests and their phases: 10 ms to 7680 s.
std::vector<double> latency_buckets_s();
// Seconds of HTTP exchanges and steps: 0.1 ms to 60 s.
std::vector<double> short_buckets_s();
// 1, 2, 5, 10 … 500,000 tokens.
std::vector<double> token_buckets();
// Choices per request.
std::vector<double> choice_buckets();

}  // namespace beryl::metrics
