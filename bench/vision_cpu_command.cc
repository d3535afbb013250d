#include "bench/vision_cpu_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/isa_option.h"
#include "bench/model/model_source.h"
#include "bench/vision/vision_benchmark.h"
#include "kernels/cpu/cpu_ops.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

constexpr int64_t kYardstickRows = 2048;
constexpr int kYardstickRepeats = 5;

struct VisionCpuArguments {
  std::string directory;
  std::vector<std::string> sizes = {"528x288", "1056x576"};
  int repeats = 3;
  uint64_t seed = 1;
  int num_threads = 0;
  kernels::cpu::Isa isa = kernels::cpu::Isa::kBest;
  std::string json_path;
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
             arguments.num_threads, peak / 1e9);
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
  if (arguments.num_threads == 0) {
    arguments.num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  if (!kernels::cpu::is_supported(kernels::cpu::resolve(arguments.isa))) {
    throw std::runtime_error("--isa: this CPU does not have it");
  }
  const std::filesystem::path directory = arguments.directory;
  const model::ModelConfig config = model::load_model_config(directory / "config.json");
  if (!config.vision) {
    throw std::runtime_error(fmt::format("{}: expected vision_config, found none",
                                         (directory / "config.json").string()));
  }
  const weights::ModelWeights weights =
      load_weights(config, {directory, {.seed = arguments.seed}},
                   {.local_experts = {},
                    .num_threads = arguments.num_threads,
                    .progress = base::terminal_progress("weights", stderr)});
  const std::unique_ptr<kernels::Ops> ops =
      kernels::cpu::make_cpu_ops({.num_threads = arguments.num_threads, .isa = arguments.isa});
  json report = measure(arguments, config, *weights.vision(), *ops);
  report["num_threads"] = arguments.num_threads;
  report["isa"] = kernels::cpu::isa_name(kernels::cpu::resolve(arguments.isa));
  if (!arguments.json_path.empty()) std::ofstream(arguments.json_path) << report.dump(1) << "\n";
}

}  // namespace

void add_vision_cpu_command(CLI::App& app) {
  auto arguments = std::make_shared<VisionCpuArguments>();
  CLI::App* command = app.add_subcommand("vision-cpu", "Speed of the vision tower");
  command->footer("Example:\n  beryl-bench vision-cpu bench/shapes/vision-full --size 1056x576");
  command->add_option("DIR", arguments->directory, "Folder with config.json; weights or a seed")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--seed", arguments->seed, "Of dummy weights")->capture_default_str();
  command->add_option("--size", arguments->sizes, "Pictures in pixels, multiples of 48")
      ->delimiter(',')
      ->default_str("528x288,1056x576");
  command->add_option("--repeats", arguments->repeats, "Runs of each, after one that warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--threads", arguments->num_threads, "0 = all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_isa_option(*command, arguments->isa);
  command->add_option("--json", arguments->json_path, "Write the report to this file");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
