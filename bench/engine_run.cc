#include "bench/engine_run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "bench/command_line.h"
#include "bench/decode/bandwidth.h"
#include "bench/kernels/kernel_report.h"
#include "bench/model/local_ranks.h"
#include "bench/model/model_source.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/peaks.h"
#include "kernels/device_error.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

// Root mean square differences of log-probabilities between decoding and prefilling. On the CPU
// both have the same bits, and the two log-softmaxes differ in order alone; on a GPU operands are
// bfloat16 and sums have other orders.
constexpr double kMaxDifferenceFloat32 = 1e-3;
constexpr double kMaxDifferenceBfloat16 = 0.25;
constexpr int kDeviceRows = 8192;
constexpr int kCpuRows = 2048;
constexpr int64_t kDevicePeakSize = 8192;
constexpr int64_t kCpuPeakSize = 2048;
constexpr size_t kReservedDeviceBytes = size_t{4} << 30;  // decoder's work space and fragments

bool is_cuda(const EngineRunOptions& options) {
  return options.device == "cuda";
}

std::unique_ptr<kernels::Ops> make_ops(EngineRunOptions& options) {
  if (options.max_rows == 0) options.max_rows = is_cuda(options) ? kDeviceRows : kCpuRows;
  if (!is_cuda(options)) return prepare_cpu_run(options.cpu);
  const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
  if (!info.is_usable) throw std::runtime_error("--device cuda: " + info.problem);
  (void)prepare_cpu_run(options.cpu);  // threads that load
  return kernels::cuda::make_cuda_ops({});
}

DeviceLimits measure_limits(const EngineRunOptions& options, kernels::Ops& ops) {
  if (is_cuda(options)) {
    return {kernels::cuda::measure_copy_bandwidth(0), measure_matmul_peak(ops, kDevicePeakSize)};
  }
  return {measure_read_bandwidth(options.cpu.num_threads), measure_matmul_peak(ops, kCpuPeakSize)};
}

size_t free_bytes(const EngineRunOptions& options) {
  if (is_cuda(options)) {
    const size_t free = kernels::cuda::query_device(0).free_bytes;
    return free - std::min(free, kReservedDeviceBytes);
  }
  return static_cast<size_t>(::sysconf(_SC_AVPHYS_PAGES)) *
         static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

json verify(const EngineRun& run) {
  std::string problem;
  VerifyResult result;
  const EngineSize size = decode_size({.context = 1}, 1, run.options.block_size);
  const bool fits = run.with_runner(
      size, problem, [&](EngineRunner& runner) { result = verify_engine(run.config, runner); });
  if (!fits) throw std::runtime_error("verification: " + problem);
  const bool is_bf16 = run.ops.activation_dtype() == kernels::DType::kBFloat16;
  const double limit = is_bf16 ? kMaxDifferenceBfloat16 : kMaxDifferenceFloat32;
  fmt::print(
      "verified: {} decoded tokens against their prefill, log-probabilities apart by {:.1e} "
      "(limit {:.1e}; with one wrong token in the prompt {:.1e})\n",
      result.num_tokens, result.logprob_difference, limit, result.fault_difference);
  if (!(result.logprob_difference <= limit)) {
    throw std::runtime_error(
        "decoding and prefilling the same tokens differ: nothing was measured");
  }
  return {{"num_tokens", result.num_tokens},
          {"logprob_difference", result.logprob_difference},
          {"limit", limit},
          {"difference_with_wrong_token", result.fault_difference}};
}

weights::ModelWeights load(const EngineRunOptions& options, const model::ModelConfig& config,
                           const expert::Placement& placement, kernels::Ops& ops) {
  const weights::LoadOptions load{.ops = &ops,
                                  .local_experts = placement.local_experts(0),
                                  .num_threads = options.cpu.num_threads,
                                  .progress = base::terminal_progress("weights", stderr)};
  if (options.load_format == "dummy") {
    return weights::ModelWeights::from_seed(config, {.seed = options.cpu.seed}, load);
  }
  return load_weights(config, {options.cpu.directory, {.seed = options.cpu.seed}}, load);
}

void write(const EngineRunOptions& options, json report) {
  report["date"] = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  report["command"] = command_line();
  report["version"] = BERYL_VERSION;
  report["device"] = is_cuda(options) ? kernels::cuda::query_device(0).name : options.device;
  report["max_rows"] = options.max_rows;
  write_report(options.cpu, std::move(report));
}

}  // namespace

void add_engine_run_options(CLI::App& command, EngineRunOptions& options) {
  add_cpu_run_options(command, options.cpu);
  command.add_option("--device", options.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  command
      .add_option("--load-format", options.load_format,
                  "auto: files where DIR holds some, else a seed; dummy: a seed")
      ->check(CLI::IsMember({"auto", "dummy"}))
      ->capture_default_str();
  command.add_option("--block-size", options.block_size, "Positions of a block of the KV cache")
      ->check(CLI::Range(1, cache::kMaxBlockSize))
      ->capture_default_str();
  command
      .add_option("--max-num-batched-tokens", options.max_rows,
                  "Prompt tokens of a step; 0: 8192 on a GPU, 2048 on the CPU")
      ->check(CLI::Range(0, 65'535))
      ->capture_default_str();
}

bool EngineRun::with_runner(const EngineSize& size, std::string& problem,
                            const std::function<void(EngineRunner&)>& measure) const {
  const size_t needed = cache_bytes(config, size, ops.kv_dtype());
  const size_t available = free_bytes(options);
  if (needed > available) {
    problem = fmt::format("the KV cache takes {:.1f} GB, {:.1f} GB are free",
                          static_cast<double>(needed) / 1e9, static_cast<double>(available) / 1e9);
    return false;
  }
  if (size.max_length > config.max_position_embeddings) {
    problem = fmt::format("{} positions, the model has {}", size.max_length,
                          config.max_position_embeddings);
    return false;
  }
  EngineRunner runner(parts, size);
  if (!is_cuda(options)) {
    limits.bytes_per_s = measure_read_bandwidth(options.cpu.num_threads);
  }
  measure(runner);
  return true;
}

double limit_seconds(const DeviceLimits& limits, double bytes, double flops) {
  return std::max(bytes / limits.bytes_per_s, flops / limits.flops_per_s);
}

void run_engine(EngineRunOptions options,
                const std::function<void(const EngineRun&, json&)>& measure) {
  const std::unique_ptr<kernels::Ops> ops = make_ops(options);
  const model::ModelConfig config = model::load_model_config(options.cpu.directory / "config.json");
  const expert::Placement placement = expert::Placement::contiguous(config.num_experts, 1);
  DeviceLimits limits = measure_limits(options, *ops);
  fmt::print("{}: memory {:.1f} GB/s, products {:.2f} TFLOP/s\n", options.device,
             limits.bytes_per_s / 1e9, limits.flops_per_s / 1e12);
  const weights::ModelWeights weights = load(options, config, placement, *ops);
  json report;
  report["memory_gb_s"] = limits.bytes_per_s / 1e9;
  run_local_ranks(1, [&](comm::Communicator& communicator) {
    const EngineParts parts{config, weights, *ops, communicator, placement};
    const EngineRun run{options, config, *ops, limits, parts};
    report["verified"] = verify(run);
    measure(run, report);
  });
  report["matmul_tflop_s"] = limits.flops_per_s / 1e12;
  report["weight_gb"] = static_cast<double>(weights.num_bytes()) / 1e9;
  write(options, std::move(report));
}

}  // namespace beryl::bench
