// Switches of the CUDA back end for comparisons, shared by sub-commands that run on it. Not shown
// in --help.
#pragma once

#include <CLI/CLI.hpp>

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
}

}  // namespace beryl::bench
