#include "bench/vision_cpu_command.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/cpu_run.h"
#include "bench/model/model_source.h"
#include "bench/vision/vision_benchmark.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

constexpr int64_t kYardstickRows = 2048;
constexpr int kYardstickRepeats = 5;

struct VisionCpuArguments {
  std::vector<std::string> sizes = {"528x288", "1056x576"};
  int repeats = 3;
  CpuRun cpu;
};

PictureSize parse_size(const std::string& text) {
  PictureSize size;
  const char* const end = text.data() + text.size();
  const auto width = std::from_chars(text.data(), end, size.width);
  const bool has_x = width.ec == std::errc() && width.ptr != end && *width.ptr == 'x';
  const auto height = std::from_chars(has_x ? width.ptr + 1 : end, end, size.height);
  if (!has_x || height.ec != std::errc() || height.ptr != end) {
    throw std::runtime_error(
        fmt::format("--size: expected WIDTHxHEIGHT in pixels, found \"{}\"", text));
  }
  return size;
}

json measure(const VisionCpuArguments& arguments, const model::ModelConfig& config,
             const weights::VisionWeights& weights, kernels::Ops& ops) {
  model::VisionTower tower({config, weights, ops});
  verify_vision(tower, *config.vision);
  const double peak = measure_linear(ops, *config.vision, weights.layers.front().mlp.gate_proj,
                                     kYardstickRows, kYardstickRepeats);
  fmt::print("one linear layer, {} rows, {} threads: {:.1f} GFLOP/s\n", kYardstickRows,
             arguments.cpu.num_threads, peak / 1e9);
  json report = {{"linear_gflop_s", peak / 1e9}, {"pictures", json::array()}};
  for (const std::string& size : arguments.sizes) {
    const VisionResult result = measure_vision(tower, config, parse_size(size), arguments.repeats);
    const double percent = 100 * result.gflop_per_s * 1e9 / peak;
    fmt::print(
        "{}: {} soft tokens in {:.0f} ms, {:.1f} tokens/s, {:.1f} GFLOP/s = {:.0f} % of the linear "
        "layer ({:.0f} % of the operations are attention)\n",
        size, result.num_soft_tokens, result.median_ms, result.tokens_per_s, result.gflop_per_s,
        percent, 100 * result.attention_share);
    report["pictures"].push_back({{"size", size},
                                  {"num_soft_tokens", result.num_soft_tokens},
                                  {"median_ms", result.median_ms},
                                  {"tokens_per_s", result.tokens_per_s},
                                  {"gflop_s", result.gflop_per_s},
                                  {"percent_of_linear", percent}});
  }
  return report;
}

void run(VisionCpuArguments arguments) {
  const std::unique_ptr<kernels::Ops> ops = prepare_cpu_run(arguments.cpu);
  const std::filesystem::path& directory = arguments.cpu.directory;
  const model::ModelConfig config = model::load_model_config(directory / "config.json");
  if (!config.vision) {
    throw std::runtime_error(fmt::format("{}: expected vision_config, found none",
                                         (directory / "config.json").string()));
  }
  const weights::ModelWeights weights =
      load_weights(config, {directory, {.seed = arguments.cpu.seed}},
                   {.local_experts = {},
                    .num_threads = arguments.cpu.num_threads,
                    .progress = base::terminal_progress("weights", stderr)});
  write_report(arguments.cpu, measure(arguments, config, *weights.vision(), *ops));
}

}  // namespace

void add_vision_cpu_command(CLI::App& app) {
  auto arguments = std::make_shared<VisionCpuArguments>();
  CLI::App* command = app.add_subcommand("vision-cpu", "Speed of the vision tower");
  command->footer("Example:\n  beryl-bench vision-cpu bench/shapes/vision-full --size 1056x576");
  add_cpu_run_options(*command, arguments->cpu);
  command->add_option("--size", arguments->sizes, "Pictures in pixels, multiples of 48")
      ->delimiter(',')
      ->default_str("528x288,1056x576");
  command->add_option("--repeats", arguments->repeats, "Runs of each, after one that warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
