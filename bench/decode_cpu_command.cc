#include "bench/decode_cpu_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/decode/bandwidth.h"
#include "bench/decode/decode_benchmark.h"
#include "bench/isa_option.h"
#include "bench/model/local_ranks.h"
#include "bench/model/model_source.h"
#include "kernels/cpu/cpu_ops.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

struct DecodeCpuArguments {
  DecodeBenchmarkOptions benchmark;
  std::string directory;
  uint64_t seed = 1;
  int num_threads = 0;
  kernels::cpu::Isa isa = kernels::cpu::Isa::kBest;
  std::string json_path;
};

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

json measure(const DecodeCpuArguments& arguments, const model::ModelConfig& config,
             RankRunner& runner) {
  verify_decode(config, runner);
  const double bandwidth = measure_read_bandwidth(arguments.num_threads);
  fmt::print("read bandwidth of {} threads: {:.1f} GB/s\n", arguments.num_threads, bandwidth / 1e9);
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
  if (arguments.num_threads == 0) {
    arguments.num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  if (!kernels::cpu::is_supported(kernels::cpu::resolve(arguments.isa))) {
    throw std::runtime_error("--isa: this CPU does not have it");
  }
  const std::filesystem::path directory = arguments.directory;
  const model::ModelConfig config = model::load_model_config(directory / "config.json");
  const expert::Placement placement = expert::Placement::contiguous(config.num_experts, 1);
  const weights::ModelWeights weights =
      load_weights(config, {directory, {.seed = arguments.seed}},
                   {.local_experts = placement.local_experts(0),
                    .num_threads = arguments.num_threads,
                    .progress = base::terminal_progress("weights", stderr)});
  const std::unique_ptr<kernels::Ops> ops =
      kernels::cpu::make_cpu_ops({.num_threads = arguments.num_threads, .isa = arguments.isa});
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
  report["cpu"] = cpu_model();
  report["num_threads"] = arguments.num_threads;
  report["isa"] = kernels::cpu::isa_name(kernels::cpu::resolve(arguments.isa));
  report["weight_gb"] = static_cast<double>(weights.num_bytes()) / 1e9;
  if (!arguments.json_path.empty()) std::ofstream(arguments.json_path) << report.dump(1) << "\n";
}

}  // namespace

void add_decode_cpu_command(CLI::App& app) {
  auto arguments = std::make_shared<DecodeCpuArguments>();
  DecodeBenchmarkOptions& benchmark = arguments->benchmark;
  CLI::App* command = app.add_subcommand("decode-cpu", "Decode and prefill speed of the decoder");
  command->footer("Example:\n  beryl-bench decode-cpu bench/shapes/frame-1.5gb --json result.json");
  command->add_option("DIR", arguments->directory, "Folder with config.json; weights or a seed")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--seed", arguments->seed, "Of dummy weights")->capture_default_str();
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
  command->add_option("--threads", arguments->num_threads, "0 = all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_isa_option(*command, arguments->isa);
  command->add_option("--json", arguments->json_path, "Write the report to this file");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
