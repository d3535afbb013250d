// beryl-bench kernels: every operation of a GPU at the published shapes.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

void add_kernels_command(CLI::App& app);

}  // namespace beryl::bench
