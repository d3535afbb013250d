#include "bench/decode/engine_speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "bench/decode/work_count.h"

namespace beryl::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Part = EngineRunner::Part;

constexpr int kMaxRepeats = 20;

std::vector<int32_t> random_tokens(std::mt19937_64& random, int count, int vocab_size) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// `share` of the values are at most this.
double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto last = static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(std::ceil(share * last))];
}

// Prompts in as few steps as max_rows allows, one after the other; each step may end several.
void prefill(EngineRunner& runner, const std::vector<int>& handles, int num_tokens, int max_rows) {
  std::vector<Part> parts;
  int num_rows = 0;
  const auto run = [&] {
    if (!parts.empty()) runner.step(parts, expert::StepMode::kExact);
    parts.clear();
    num_rows = 0;
  };
  for (const int handle : handles) {
    for (int done = 0; done < num_tokens;) {
      const int count = std::min(num_tokens - done, max_rows - num_rows);
      parts.push_back({handle, count});
      done += count;
      num_rows += count;
      if (num_rows == max_rows) run();
    }
  }
  run();
}

// Root mean square difference between the log-probabilities of decoded tokens and those that a
// prompt with the same tokens gets.
double prefilled_difference(EngineRunner& runner, const std::vector<int32_t>& tokens,
                            const std::vector<float>& decoded) {
  const int handle = runner.add(tokens, EngineRunner::Logprobs::kOfPrompt);
  const Part part{handle, static_cast<int>(tokens.size())};
  const wire::StepResult& result = runner.step({&part, 1}, expert::StepMode::kExact);
  const auto& prompt = result.outputs(0).prompt();  // of positions 1 …
  const int first = static_cast<int>(tokens.size() - decoded.size()) - 1;
  if (prompt.size() != static_cast<int>(tokens.size()) - 1) {
    throw std::runtime_error("the engine gives too few log-probabilities of a prompt");
  }
  double sum = 0;
  for (size_t i = 0; i < decoded.size(); ++i) {
    const double difference = prompt.Get(first + static_cast<int>(i)).logprob() - decoded[i];
    sum += difference * difference;
  }
  runner.release_all();
  return std::sqrt(sum / static_cast<double>(decoded.size()));
}

}  // namespace

VerifyResult verify_engine(const model::ModelConfig& config, EngineRunner& runner) {
  std::mt19937_64 random(1);
  std::vector<int32_t> tokens = random_tokens(random, kNumVerifiedPromptTokens, config.vocab_size);
  std::vector<float> decoded;
  const int handle = runner.add(tokens, EngineRunner::Logprobs::kOfOutput);
  Part part{handle, kNumVerifiedPromptTokens};
  for (int i = 0; i < kNumVerifiedTokens; ++i) {
    const auto mode = i == 0 ? expert::StepMode::kExact : expert::StepMode::kPadded;
    const wire::Token& token = runner.step({&part, 1}, mode).outputs(0).tokens(0);
    tokens.push_back(static_cast<int32_t>(token.token_id()));
    decoded.push_back(token.logprob());
    part.count = 1;
  }
  runner.release_all();
  VerifyResult result{.num_tokens = kNumVerifiedTokens};
  result.logprob_difference = prefilled_difference(runner, tokens, decoded);
  tokens[kNumVerifiedPromptTokens - 1] =
      (tokens[kNumVerifiedPromptTokens - 1] + 1) % config.vocab_size;
  result.fault_difference = prefilled_difference(runner, tokens, decoded);
  return result;
}

EngineSize decode_size(const DecodeShape& shape, int max_rows, int block_size) {
  const int length = shape.context + kNumWarmupSteps + shape.num_steps + kNumCountedSteps + 1;
  return {.max_rows =
              std::max({max_rows, shape.batch_size, kNumVerifiedPromptTokens + kNumVerifiedTokens}),
          .max_requests = shape.batch_size,
          .max_length = std::max(length, kNumVerifiedPromptTokens + kNumVerifiedTokens + 1),
          .block_size = block_size};
}

EngineSize prefill_size(int num_tokens, int max_rows, int block_size) {
  return decode_size({.batch_size = 1, .context = num_tokens, .num_steps = 0}, max_rows,
                     block_size);
}

DecodeResult measure_decode(const model::ModelConfig& config, const DecodeShape& shape,
                            kernels::DType kv_dtype, uint64_t seed, EngineRunner& runner,
                            kernels::Ops& ops) {
  std::mt19937_64 random(seed);
  std::vector<int> handles;
  std::vector<Part> parts;
  for (int i = 0; i < shape.batch_size; ++i) {
    handles.push_back(runner.add(random_tokens(random, shape.context, config.vocab_size)));
    parts.push_back({handles.back(), 1});
  }
  DecodeResult result;
  const Clock::time_point start = Clock::now();
  prefill(runner, handles, shape.context, runner.size().max_rows);
  result.set_up_seconds = seconds_since(start);
  std::vector<double> seconds;
  for (int i = 0; i < kNumWarmupSteps + shape.num_steps; ++i) {
    const Clock::time_point step_start = Clock::now();
    runner.step(parts, expert::StepMode::kPadded);
    if (i >= kNumWarmupSteps) seconds.push_back(seconds_since(step_start));
    // The first decoded token is at position `context`.
    if (i < kNumWarmupSteps) continue;
    const int position = shape.context + i;
    result.kv_bytes += static_cast<double>(shape.batch_size) *
                       static_cast<double>(kv_bytes_read(config, kv_dtype, position));
    result.flops += shape.batch_size * decode_flops(config, position);
  }
  ExpertCounter counter(config.num_experts, ops);
  for (int i = 0; i < kNumCountedSteps; ++i) {
    runner.step(parts, expert::StepMode::kPadded, &counter);
  }
  runner.release_all();
  result.kv_bytes /= shape.num_steps;
  result.flops /= shape.num_steps;
  result.experts_per_layer =
      static_cast<double>(counter.num_experts_read()) / kNumCountedSteps / config.num_hidden_layers;
  result.median_ms = quantile(seconds, 0.5) * 1e3;
  result.p99_ms = quantile(seconds, 0.99) * 1e3;
  result.mean_ms = std::accumulate(seconds.begin(), seconds.end(), 0.0) /
                   static_cast<double>(seconds.size()) * 1e3;
  return result;
}

PrefillResult measure_prefill(const model::ModelConfig& config, int num_tokens, double seconds,
                              int max_rows, uint64_t seed, EngineRunner& runner,
                              kernels::Ops& ops) {
  std::mt19937_64 random(seed);
  PrefillResult result;
  ExpertCounter counter(config.num_experts, ops);
  const auto run = [&](model::LayerObserver* observer) {
    const int handle = runner.add(random_tokens(random, num_tokens, config.vocab_size));
    const Clock::time_point start = Clock::now();
    result.num_chunks = 0;
    for (int done = 0; done < num_tokens; ++result.num_chunks) {
      const Part part{handle, std::min(num_tokens - done, max_rows)};
      runner.step({&part, 1}, expert::StepMode::kExact, observer);
      done += part.count;
    }
    const double spent = seconds_since(start);
    runner.release_all();
    return spent;
  };
  run(&counter);
  result.experts_read = static_cast<double>(counter.num_experts_read());
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  while (times.empty() ||
         (seconds_since(start) < seconds && static_cast<int>(times.size()) < kMaxRepeats)) {
    times.push_back(run(nullptr));
  }
  result.num_repeats = static_cast<int>(times.size());
  result.median_ms = quantile(times, 0.5) * 1e3;
  return result;
}

}  // namespace beryl::bench
