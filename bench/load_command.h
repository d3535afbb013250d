// `beryl-bench load`: closed- or open-loop load on a running OpenAI-compatible server.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

// Adds the sub-command; its callback runs it. Throws CLI::RuntimeError with the exit code.
void add_load_command(CLI::App& app);

}  // namespace beryl::bench
