#include "bench/decode_command.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/decode/work_count.h"
#include "bench/engine_run.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

struct DecodeArguments {
  EngineRunOptions run;
  std::vector<int> batch_sizes = {1, 4, 16};
  std::vector<int> contexts = {512};
  int num_steps = 64;
};

struct PrefillArguments {
  EngineRunOptions run;
  std::vector<int> num_tokens = {1024, 8192};
  double seconds = 3;
};

void print_decode(const json& r) {
  fmt::print(
      "decode, batch {}, context {}: {:.1f} tokens/s, step {:.3f} ms (p99 {:.3f}) = {:.0f} % of "
      "the "
      "limit\n    limit {:.3f} ms at {:.1f} GB/s: weights {:.3f} GB ({:.1f} distinct experts per "
      "layer), KV "
      "{:.3f} "
      "GB, {:.1f} GFLOP; contexts set up in {:.1f} s\n",
      r["batch_size"].get<int>(), r["context"].get<int>(), r["tokens_per_s"].get<double>(),
      r["step_median_ms"].get<double>(), r["step_p99_ms"].get<double>(),
      r["percent_of_limit"].get<double>(), r["limit_ms"].get<double>(),
      r["memory_gb_s"].get<double>(), r["weight_gb_per_step"].get<double>(),
      r["experts_per_layer"].get<double>(), r["kv_gb_per_step"].get<double>(),
      r["gflop_per_step"].get<double>(), r["set_up_s"].get<double>());
}

json decode_json(const EngineRun& run, const DecodeShape& shape, const DecodeResult& result) {
  const double weight_bytes = static_cast<double>(dense_weight_bytes(run.config)) +
                              result.experts_per_layer * run.config.num_hidden_layers *
                                  static_cast<double>(expert_weight_bytes(run.config));
  const double bytes = weight_bytes + result.kv_bytes;
  const double limit_ms = limit_seconds(run.limits, bytes, result.flops) * 1e3;
  return {{"batch_size", shape.batch_size},
          {"context", shape.context},
          {"num_steps", shape.num_steps},
          {"tokens_per_s", shape.batch_size / result.median_ms * 1e3},
          {"step_median_ms", result.median_ms},
          {"step_mean_ms", result.mean_ms},
          {"step_p99_ms", result.p99_ms},
          {"limit_ms", limit_ms},
          {"percent_of_limit", 100 * limit_ms / result.median_ms},
          {"memory_gb_s", run.limits.bytes_per_s / 1e9},
          {"experts_per_layer", result.experts_per_layer},
          {"weight_gb_per_step", weight_bytes / 1e9},
          {"kv_gb_per_step", result.kv_bytes / 1e9},
          {"gb_s", bytes / result.median_ms * 1e-6},
          {"gflop_per_step", result.flops / 1e9},
          {"set_up_s", result.set_up_seconds}};
}

// Prints and records a shape that does not fit.
void skip(const std::string& what, json entry, const std::string& problem, json& results) {
  fmt::print("{}: left out, {}\n", what, problem);
  entry["left_out"] = problem;
  results.push_back(std::move(entry));
}

void run_decode(const DecodeArguments& arguments) {
  run_engine(arguments.run, [&](const EngineRun& run, json& report) {
    json& results = report["decode"] = json::array();
    for (const int context : arguments.contexts) {
      for (const int batch_size : arguments.batch_sizes) {
        const DecodeShape shape{batch_size, context, arguments.num_steps};
        std::string problem;
        const EngineSize size = decode_size(shape, run.options.max_rows, run.options.block_size);
        const bool fits = run.with_runner(size, problem, [&](EngineRunner& runner) {
          results.push_back(decode_json(run, shape,
                                        measure_decode(run.config, shape, run.ops.kv_dtype(),
                                                       run.options.cpu.seed, runner, run.ops)));
          print_decode(results.back());
        });
        if (fits) continue;
        skip(fmt::format("decode, batch {}, context {}", batch_size, context),
             {{"batch_size", batch_size}, {"context", context}}, problem, results);
      }
    }
  });
}

json prefill_json(const EngineRun& run, int num_tokens, const PrefillResult& result) {
  const double flops = prefill_flops(run.config, num_tokens);
  const double bytes =
      static_cast<double>(result.num_chunks) * static_cast<double>(dense_weight_bytes(run.config)) +
      result.experts_read * static_cast<double>(expert_weight_bytes(run.config));
  const double limit_ms = limit_seconds(run.limits, bytes, flops) * 1e3;
  const double layers = static_cast<double>(result.num_chunks) * run.config.num_hidden_layers;
  return {{"num_tokens", num_tokens},
          {"num_chunks", result.num_chunks},
          {"num_repeats", result.num_repeats},
          {"median_ms", result.median_ms},
          {"tokens_per_s", num_tokens / result.median_ms * 1e3},
          {"limit_ms", limit_ms},
          {"percent_of_limit", 100 * limit_ms / result.median_ms},
          {"gflop", flops / 1e9},
          {"tflop_s", flops / result.median_ms * 1e-9},
          {"experts_per_layer", result.experts_read / layers},
          {"weight_gb", bytes / 1e9}};
}

void print_prefill(const json& r) {
  fmt::print(
      "prefill of {} tokens: {:.1f} ms to the first token, {:.0f} tokens/s, {:.2f} TFLOP/s = "
      "{:.0f} % of the limit\n    limit {:.1f} ms: {:.1f} GFLOP, weights {:.3f} GB in {} steps "
      "({:.1f} distinct experts per layer)\n",
      r["num_tokens"].get<int>(), r["median_ms"].get<double>(), r["tokens_per_s"].get<double>(),
      r["tflop_s"].get<double>(), r["percent_of_limit"].get<double>(), r["limit_ms"].get<double>(),
      r["gflop"].get<double>(), r["weight_gb"].get<double>(), r["num_chunks"].get<int>(),
      r["experts_per_layer"].get<double>());
}

void run_prefill(const PrefillArguments& arguments) {
  run_engine(arguments.run, [&](const EngineRun& run, json& report) {
    json& results = report["prefill"] = json::array();
    for (const int num_tokens : arguments.num_tokens) {
      std::string problem;
      const int max_rows = run.options.max_rows;
      const EngineSize size = prefill_size(num_tokens, max_rows, run.options.block_size);
      const bool fits = run.with_runner(size, problem, [&](EngineRunner& runner) {
        results.push_back(
            prefill_json(run, num_tokens,
                         measure_prefill(run.config, num_tokens, arguments.seconds, max_rows,
                                         run.options.cpu.seed, runner, run.ops)));
        print_prefill(results.back());
      });
      if (fits) continue;
      skip(fmt::format("prefill of {} tokens", num_tokens), {{"num_tokens", num_tokens}}, problem,
           results);
    }
  });
}

}  // namespace

void add_decode_command(CLI::App& app) {
  auto arguments = std::make_shared<DecodeArguments>();
  CLI::App* command =
      app.add_subcommand("decode", "Decode speed of one rank's engine, against its limit");
  command->footer(
      "Examples:\n"
      "  beryl-bench decode bench/shapes/frame-1.5gb --batch 1,4,16 --context 64\n"
      "  beryl-bench decode MODEL_DIR --device cuda --batch 1,16,100 --context 512,8192");
  add_engine_run_options(*command, arguments->run);
  command->add_option("--batch", arguments->batch_sizes, "Requests decoded together")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->default_str("1,4,16");
  command->add_option("--context", arguments->contexts, "Tokens before the first step")
      ->delimiter(',')
      ->check(CLI::Range(1, 10'000'000))
      ->default_str("512");
  command->add_option("--steps", arguments->num_steps, "Steps measured")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command->callback([arguments] { run_decode(*arguments); });
}

void add_prefill_command(CLI::App& app) {
  auto arguments = std::make_shared<PrefillArguments>();
  CLI::App* command = app.add_subcommand(
      "prefill", "Time to the first token of one rank's engine, against its limit");
  command->footer(
      "Examples:\n"
      "  beryl-bench prefill bench/shapes/frame-1.5gb --tokens 512\n"
      "  beryl-bench prefill MODEL_DIR --device cuda --tokens 1024,8192,131072,262000");
  add_engine_run_options(*command, arguments->run);
  command->add_option("--tokens", arguments->num_tokens, "Of the prompt")
      ->delimiter(',')
      ->check(CLI::Range(1, 10'000'000))
      ->default_str("1024,8192");
  command->add_option("--seconds", arguments->seconds, "Of measuring a length; at least one prompt")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command->callback([arguments] { run_prefill(*arguments); });
}

}  // namespace beryl::bench
