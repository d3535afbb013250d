#include "bench/decode_cpu_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/cpu_run.h"
#include "bench/decode/bandwidth.h"
#include "bench/decode/decode_benchmark.h"
#include "bench/model/local_ranks.h"
#include "bench/model/model_source.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

struct DecodeCpuArguments {
  DecodeBenchmarkOptions benchmark;
  CpuRun cpu;
};

json measure(const DecodeCpuArguments& arguments, const model::ModelConfig& config,
             RankRunner& runner) {
  verify_decode(config, runner);
  const double bandwidth = measure_read_bandwidth(arguments.cpu.num_threads);
  fmt::print("read bandwidth of {} threads: {:.1f} GB/s\n", arguments.cpu.num_threads,
             bandwidth / 1e9);
  json report = {{"read_bandwidth_gb_s", bandwidth / 1e9}, {"decode", json::array()}};
  for (const int batch_size : arguments.benchmark.batch_sizes) {
    const DecodeResult result = measure_decode(config, arguments.benchmark, batch_size, runner);
    const double percent = 100 * result.bytes_per_s / bandwidth;
    fmt::print(
        "decode, batch {}: {:.1f} tokens/s, step {:.2f} ms (p99 {:.2f}), {:.0f} MB of weights a "
        "step, {:.1f} GB/s = {:.0f} % of read bandwidth\n",
        batch_size, result.tokens_per_s, result.median_ms, result.p99_ms,
        result.bytes_per_step / 1e6, result.bytes_per_s / 1e9, percent);
    report["decode"].push_back({{"batch_size", batch_size},
                                {"tokens_per_s", result.tokens_per_s},
                                {"step_median_ms", result.median_ms},
                                {"step_p99_ms", result.p99_ms},
                                {"weight_mb_per_step", result.bytes_per_step / 1e6},
                                {"gb_s", result.bytes_per_s / 1e9},
                                {"percent_of_bandwidth", percent}});
  }
  const PrefillResult prefill = measure_prefill(config, arguments.benchmark, runner);
  fmt::print("prefill of {} tokens: {:.1f} ms, {:.1f} GFLOP/s\n", prefill.num_tokens,
             prefill.median_ms, prefill.gflop_per_s);
  report["prefill"] = {{"num_tokens", prefill.num_tokens},
                       {"median_ms", prefill.median_ms},
                       {"gflop_s", prefill.gflop_per_s}};
  return report;
}

void run(DecodeCpuArguments arguments) {
  const std::unique_ptr<kernels::Ops> ops = prepare_cpu_run(arguments.cpu);
  const std::filesystem::path& directory = arguments.cpu.directory;
  const model::ModelConfig config = model::load_model_config(directory / "config.json");
  const expert::Placement placement = expert::Placement::contiguous(config.num_experts, 1);
  const weights::ModelWeights weights =
      load_weights(config, {directory, {.seed = arguments.cpu.seed}},
                   {.local_experts = placement.local_experts(0),
                    .num_threads = arguments.cpu.num_threads,
                    .progress = base::terminal_progress("weights", stderr)});
  json report;
  run_local_ranks(1, [&](comm::Communicator& communicator) {
    RankRunner runner({.config = config,
                       .weights = weights,
                       .ops = *ops,
                       .communicator = communicator,
                       .placement = placement},
                      decode_benchmark_limits(arguments.benchmark));
    report = measure(arguments, config, runner);
  });
  report["weight_gb"] = static_cast<double>(weights.num_bytes()) / 1e9;
  write_report(arguments.cpu, std::move(report));
}

}  // namespace

void add_decode_cpu_command(CLI::App& app) {
  auto arguments = std::make_shared<DecodeCpuArguments>();
  DecodeBenchmarkOptions& benchmark = arguments->benchmark;
  CLI::App* command = app.add_subcommand("decode-cpu", "Decode and prefill speed of the decoder");
  command->footer("Example:\n  beryl-bench decode-cpu bench/shapes/frame-1.5gb --json result.json");
  add_cpu_run_options(*command, arguments->cpu);
  command->add_option("--batch", benchmark.batch_sizes, "Requests decoded together")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024))
      ->default_str("1,4,16");
  command->add_option("--steps", benchmark.num_steps, "Decode steps measured")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command->add_option("--context", benchmark.context, "Tokens before the first step")
      ->check(CLI::Range(1, 8192))
      ->capture_default_str();
  command->add_option("--prefill", benchmark.prefill_tokens, "Tokens of one prefill")
      ->check(CLI::Range(1, 8192))
      ->capture_default_str();
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
