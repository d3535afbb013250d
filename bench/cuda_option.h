// Switches of the CUDA back end for comparisons, shared by sub-commands that run on it. Not shown
// in --help.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "kernels/cuda/cuda_ops.h"

namespace beryl::bench {

inline void add_cuda_options(CLI::App& command, kernels::cuda::CudaOpsOptions& options) {
  command
      .add_flag("--no-graphs", options.without_graphs,
                "CUDA: launch steps kernel by kernel, also those that come back")
      ->group("");
  command
      .add_flag("--no-overlap", options.without_overlap,
                "CUDA: start a kernel only when the one before has ended")
      ->group("");
  static const std::map<std::string, kernels::cuda::KernelArch> kArchs = {
      {"best", kernels::cuda::KernelArch::kBest}, {"sm_80", kernels::cuda::KernelArch::kSm80}};
  command
      .add_option(
          "--kernel-arch", options.kernel_arch,
          "CUDA: best, the kernels made for the device; sm_80, those that every device runs")
      ->transform(CLI::CheckedTransformer(kArchs))
      ->group("");
}

}  // namespace beryl::bench
