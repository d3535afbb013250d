// `beryl-bench mock-group`: workers without a model, to measure the coordinator alone.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

// Adds the sub-command; its callback runs until a rank's connection ends.
void add_mock_group_command(CLI::App& app);

}  // namespace beryl::bench
