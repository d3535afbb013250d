#include "bench/kernels_command.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "bench/cuda_option.h"
#include "bench/kernels/kernel_report.h"
#include "bench/plot/report_plot.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/peaks.h"

namespace beryl::bench {
namespace {

struct KernelsArguments {
  KernelReportOptions report;
  kernels::cuda::CudaOpsOptions cuda;
  std::string json_path;
};

void run(const KernelsArguments& arguments) {
  const kernels::cuda::DeviceInfo info = kernels::cuda::query_device(0);
  if (!info.is_usable) throw std::runtime_error("kernels: " + info.problem);
  const auto ops = kernels::cuda::make_cuda_ops(arguments.cuda);
  const auto plain =
      kernels::cuda::make_cuda_ops({.without_cublas = true, .with_generic_attention = true});
  const DevicePeaks peaks = {kernels::cuda::measure_copy_bandwidth(0), measure_matmul_peak(*ops)};
  const double upload = kernels::cuda::measure_upload_bandwidth(0);
  fmt::print("{}: copies {:.0f} GB/s, bf16 products {:.0f} TFLOP/s, uploads {:.1f} GB/s\n",
             info.name, peaks.bytes_per_s / 1e9, peaks.flops_per_s / 1e12, upload / 1e9);
  KernelReport report(*ops, peaks, arguments.report);
  const KernelOps device = {*ops, *plain};
  const auto visit = [&](const KernelCase& one) { report.run(one); };
  visit_kernel_cases(device, visit);
  visit_attention_cases(device, visit);
  visit_vision_cases(device, visit);
  const nlohmann::json json = {{"device", info.name},
                               {"copy_gb_s", peaks.bytes_per_s / 1e9},
                               {"matmul_tflop_s", peaks.flops_per_s / 1e12},
                               {"upload_gb_s", upload / 1e9},
                               {"kernels", report.results()}};
  if (!arguments.json_path.empty()) write_with_plot(arguments.json_path, json);
  if (report.num_failed() > 0) {
    throw std::runtime_error(fmt::format("{} results are wrong", report.num_failed()));
  }
}

}  // namespace

void add_kernels_command(CLI::App& app) {
  auto arguments = std::make_shared<KernelsArguments>();
  CLI::App* command = app.add_subcommand(
      "kernels", "Operations of a GPU at the published shapes: verified, then measured");
  command->footer("Example:\n  beryl-bench kernels --filter expert_ffn --json kernels.json");
  command->add_option("--filter", arguments->report.filter, "Only names that contain this");
  command->add_option("--seconds", arguments->report.seconds, "Of measuring each case")
      ->check(CLI::Range(0.001, 60.0))
      ->capture_default_str();
  add_cuda_options(*command, arguments->cuda);
  command->add_option("--json", arguments->json_path,
                      "Write the report to this file, and a plot of it beside it");
  command->callback([arguments] { run(*arguments); });
}

}  // namespace beryl::bench
