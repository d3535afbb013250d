#include "bench/decode/decode_benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>

#include "bench/decode/work_count.h"

namespace beryl::bench {

namespace {

using Clock = std::chrono::steady_clock;

// Any tokens, different for every request and step, so that routing varies.
int32_t token_at(int request, int position, int vocab_size) {
  const uint32_t hash = (static_cast<uint32_t>(request) * 2654435761u) ^
                        (static_cast<uint32_t>(position) * 2246822519u);
  return static_cast<int32_t>((hash ^ (hash >> 15)) % static_cast<uint32_t>(vocab_size));
}

std::vector<int32_t> tokens(int request, int num_tokens, int vocab_size) {
  std::vector<int32_t> ids;
  for (int i = 0; i < num_tokens; ++i) ids.push_back(token_at(request, i, vocab_size));
  return ids;
}

void run_step(RankRunner& runner, std::vector<Segment> segments, expert::StepMode mode,
              model::LayerObserver* observer = nullptr) {
  const base::Status status = runner.run({std::move(segments)}, mode, observer);
  if (!status) throw std::runtime_error(status.error().message);
  if (!runner.logits_rows().empty()) runner.logits(0);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// `share` of the values are at most this.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(share * last + 0.5)];
}

}  // namespace

constexpr int kNumVerifiedTokens = 12;

RunnerLimits decode_benchmark_limits(const DecodeBenchmarkOptions& options) {
  const int largest = *std::max_element(options.batch_sizes.begin(), options.batch_sizes.end());
  const int length = options.context + options.num_steps + options.num_warmup_steps;
  const int max_rows =
      std::max({options.prefill_tokens, largest, options.context, kNumVerifiedTokens});
  return {.max_rows = max_rows,
          .max_positions = std::max(largest * length, max_rows),
          .max_requests = largest + 1,
          .max_logits_rows = largest,
          .round_capacity = max_rows};
}

void verify_decode(const model::ModelConfig& config, RankRunner& runner) {
  const std::vector<int32_t> ids = tokens(1, kNumVerifiedTokens, config.vocab_size);
  const auto vocab = static_cast<size_t>(config.vocab_size);
  run_step(runner, {sampled_segment(0, ids)}, expert::StepMode::kExact);
  const std::vector<float> expected(runner.logits(0), runner.logits(0) + vocab);
  runner.drop_all();
  for (const int32_t id : ids) {
    run_step(runner, {sampled_segment(0, {id})}, expert::StepMode::kPadded);
  }
  const bool is_same = std::memcmp(expected.data(), runner.logits(0), vocab * sizeof(float)) == 0;
  const bool is_alive =
      std::any_of(expected.begin(), expected.end(), [](float v) { return v != 0; });
  runner.drop_all();
  if (!is_same || !is_alive) {
    throw std::runtime_error("decode and prefill give different logits: nothing was measured");
  }
}

DecodeResult measure_decode(const model::ModelConfig& config, const DecodeBenchmarkOptions& options,
                            int batch_size, RankRunner& runner) {
  for (int request = 0; request < batch_size; ++request) {
    run_step(runner,
             {sampled_segment(request, tokens(request, options.context, config.vocab_size))},
             expert::StepMode::kExact);
  }
  std::vector<double> seconds;
  double total_bytes = 0;
  for (int i = 0; i < options.num_warmup_steps + options.num_steps; ++i) {
    std::vector<Segment> segments;
    for (int request = 0; request < batch_size; ++request) {
      segments.push_back(
          sampled_segment(request, {token_at(request, options.context + i, config.vocab_size)}));
    }
    ExpertCounter counter(config.num_experts);
    const auto start = Clock::now();
    run_step(runner, std::move(segments), expert::StepMode::kPadded, &counter);
    if (i < options.num_warmup_steps) continue;
    seconds.push_back(seconds_since(start));
    total_bytes += static_cast<double>(dense_weight_bytes(config) +
                                       counter.num_experts_read() * expert_weight_bytes(config));
  }
  runner.drop_all();
  const double total_seconds = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  const double median = quantile(seconds, 0.5);
  return {.batch_size = batch_size,
          .tokens_per_s = batch_size / median,
          .median_ms = median * 1e3,
          .p99_ms = quantile(seconds, 0.99) * 1e3,
          .bytes_per_step = total_bytes / options.num_steps,
          .bytes_per_s = total_bytes / total_seconds};
}

PrefillResult measure_prefill(const model::ModelConfig& config,
                              const DecodeBenchmarkOptions& options, RankRunner& runner) {
  std::vector<double> seconds;
  for (int i = 0; i <= options.prefill_repeats; ++i) {
    const auto start = Clock::now();
    run_step(runner, {sampled_segment(0, tokens(i, options.prefill_tokens, config.vocab_size))},
             expert::StepMode::kExact);
    if (i > 0) seconds.push_back(seconds_since(start));  // the first warms up
    runner.drop_all();
  }
  const double median = quantile(seconds, 0.5);
  return {.num_tokens = options.prefill_tokens,
          .median_ms = median * 1e3,
          .gflop_per_s = prefill_flops(config, options.prefill_tokens) / median / 1e9};
}

}  // namespace beryl::bench
