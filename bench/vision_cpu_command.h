// beryl-bench vision-cpu: speed of the vision tower on CPU threads.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

void add_vision_cpu_command(CLI::App& app);

}  // namespace beryl::bench
