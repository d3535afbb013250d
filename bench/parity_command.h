// `beryl-bench parity`: our logits, routing and greedy choices against recorded results.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

// Adds the sub-command; its callback runs it. Throws CLI::RuntimeError with the exit code.
void add_parity_command(CLI::App& app);

}  // namespace beryl::bench
