#include "bench/cpu_run.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>
#include <utility>

#include "bench/isa_option.h"
#include "bench/plot/report_plot.h"
#include "kernels/cpu/cpu_ops.h"

namespace beryl::bench {
namespace {

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

void add_cpu_run_options(CLI::App& command, CpuRun& run) {
  command.add_option("DIR", run.directory, "Folder with config.json; weights or a seed")
      ->required()
      ->check(CLI::ExistingDirectory);
  command.add_option("--seed", run.seed, "Of dummy weights")->capture_default_str();
  command.add_option("--threads", run.num_threads, "0 = all cores")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_isa_option(command, run.isa);
  command.add_option("--json", run.json_path, "Write the report to this file");
}

std::unique_ptr<kernels::Ops> prepare_cpu_run(CpuRun& run) {
  if (run.num_threads == 0) {
    run.num_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  if (!kernels::cpu::is_supported(kernels::cpu::resolve(run.isa))) {
    throw std::runtime_error("--isa: this CPU does not have it");
  }
  return kernels::cpu::make_cpu_ops({.num_threads = run.num_threads, .isa = run.isa});
}

void write_report(const CpuRun& run, nlohmann::json report) {
  report["cpu"] = cpu_model();
  report["num_threads"] = run.num_threads;
  report["isa"] = kernels::cpu::isa_name(kernels::cpu::resolve(run.isa));
  if (!run.json_path.empty()) write_with_plot(run.json_path, report);
}

}  // namespace beryl::bench
