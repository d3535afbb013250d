// `beryl-bench make-checkpoint`: a checkpoint of any size from a config and a seed.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

// Adds the sub-command; its callback runs it. Throws std::runtime_error.
void add_make_checkpoint_command(CLI::App& app);

}  // namespace beryl::bench
