// What `decode` and `prefill` have in common: device, model, its limits and the report.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bench/cpu_run.h"
#include "bench/decode/engine_runner.h"
#include "bench/decode/engine_speed.h"

namespace beryl::bench {

struct EngineRunOptions {
  CpuRun cpu;  // directory, seed and report; threads and instruction set of the CPU
  std::string device = "cpu";
  std::string load_format = "auto";
  int block_size = 16;
  int max_rows = 0;  // of a step; 0: 8192 on a GPU, 2048 on the CPU
};

void add_engine_run_options(CLI::App& command, EngineRunOptions& options);

// What the device reaches, measured in this run.
struct DeviceLimits {
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

// A loaded model on a device. Shapes are measured one after the other, each with a cache of its
// own.
struct EngineRun {
  const EngineRunOptions& options;
  const model::ModelConfig& config;
  kernels::Ops& ops;
  // A machine's read bandwidth changes with its neighbours: on a CPU measured again for each shape.
  DeviceLimits& limits;

  // Calls `measure` with a runner of this size. False: the cache does not fit, `problem` says why.
  bool with_runner(const EngineSize& size, std::string& problem,
                   const std::function<void(EngineRunner&)>& measure) const;

  const EngineParts& parts;
};

// Least seconds for so many bytes and operations.
double limit_seconds(const DeviceLimits& limits, double bytes, double flops);

// Loads the model, measures the limits of the device, verifies the engine, calls `measure`, and
// writes the report that it fills.
void run_engine(EngineRunOptions options,
                const std::function<void(const EngineRun&, nlohmann::json&)>& measure);

}  // namespace beryl::bench
