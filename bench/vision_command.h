// beryl-bench vision: speed of the vision tower on CPU threads or a GPU.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

void add_vision_command(CLI::App& app);

}  // namespace beryl::bench
