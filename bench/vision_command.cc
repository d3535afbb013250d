#include "bench/vision_command.h"

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
#include "kernels/cuda/cuda_ops.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

constexpr int64_t kYardstickRows = 2048;
constexpr int kYardstickRepeats = 5;

struct VisionCpuArguments {
  std::vector<std::string> sizes = {"528x288", "1056x576"};
  int repeats = 3;
  std::string device = "cpu";
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
  verify_vision(tower, *config.vision, ops);
  const double peak = measure_linear(ops, *config.vision, weights.layers.front().mlp.gate_proj,
                                     kYardstickRows, kYardstickRepeats);
  fmt::print(
      "one linear layer, {} rows, {}: {:.1f} GFLOP/s\n", kYardstickRows,
      arguments.device == "cuda" ? "cuda" : fmt::format("{} threads", arguments.cpu.num_threads),
      peak / 1e9);
  json report = {{"linear_gflop_s", peak / 1e9}, {"pictures", json::array()}};
  for (const std::string& size : arguments.sizes) {
    const VisionResult result =
        measure_vision(tower, config, ops, parse_size(size), arguments.repeats);
    const double percent = 100 * result.gflop_per_s * 1e9 / peak;
    fmt::print(
        "{}: {} soft tokens in {:.1f} ms, {:.1f} tokens/s, {:.1f} GFLOP/s = {:.0f} % of the linear "
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

std::unique_ptr<kernels::Ops> make_ops(VisionCpuArguments& arguments) {
  std::unique_ptr<kernels::Ops> cpu = prepare_cpu_run(arguments.cpu);
  if (arguments.device == "cpu") return cpu;
  const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
  if (!info.is_usable) throw std::runtime_error("--device cuda: " + info.problem);
  return kernels::cuda::make_cuda_ops({});
}

void run(VisionCpuArguments arguments) {
  const std::unique_ptr<kernels::Ops> ops = make_ops(arguments);
  const std::filesystem::path& directory = arguments.cpu.directory;
  const model::ModelConfig config = model::load_model_config(directory / "config.json");
  if (!config.vision) {
    throw std::runtime_error(fmt::format("{}: expected vision_config, found none",
                                         (directory / "config.json").string()));
  }
  const weights::ModelWeights weights =
      load_weights(config, {directory, {.seed = arguments.cpu.seed}},
                   {.ops = ops.get(),
                    .local_experts = {},
                    .num_threads = arguments.cpu.num_threads,
                    .progress = base::terminal_progress("weights", stderr)});
  json report = measure(arguments, config, *weights.vision(), *ops);
  report["device"] = arguments.device == "cuda" ? kernels::cuda::query_device(0).name : "cpu";
  write_report(arguments.cpu, std::move(report));
}

}  // namespace

void add_vision_command(CLI::App& app) {
  auto arguments = std::make_shared<VisionCpuArguments>();
  CLI::App* command =
      app.add_subcommand("vision", "Speed of the vision tower")->alias("vision-cpu");
  command->footer(
      "Examples:\n"
      "  beryl-bench vision bench/shapes/vision-full --size 1056x576\n"
      "  beryl-bench vision bench/shapes/vision-full --device cuda --size 960x672,1920x1344");
  add_cpu_run_options(*command, arguments->cpu);
  command->add_option("--size", arguments->sizes, "Pictures in pixels, multiples of 48")
      ->delimiter(',')
      ->default_str("528x288,1056x576");
  command->add_option("--device", arguments->device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command->add_option("--repeats", arguments->repeats, "Runs of each, after one that warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
