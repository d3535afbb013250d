// What sub-commands that measure the CPU back end have in common: the model, threads, instruction
// set and report.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "kernels/cpu/isa.h"
#include "kernels/ops.h"

namespace beryl::bench {

struct CpuRun {
  std::filesystem::path directory;  // config.json; weights or a seed
  uint64_t seed = 1;                // of dummy weights
  int num_threads = 0;              // 0: all cores, until prepare_cpu_run()
  kernels::cpu::Isa isa = kernels::cpu::Isa::kBest;
  std::string json_path;  // of the report; empty: none
};

// DIR, --seed, --threads, --isa and --json.
void add_cpu_run_options(CLI::App& command, CpuRun& run);

// Settles the number of threads. Throws std::runtime_error if this CPU lacks the instruction set.
std::unique_ptr<kernels::Ops> prepare_cpu_run(CpuRun& run);

// Adds what was measured on and writes the file that was asked for.
void write_report(const CpuRun& run, nlohmann::json report);

}  // namespace beryl::bench
