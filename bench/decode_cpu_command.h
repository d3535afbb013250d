// `beryl-bench decode-cpu`: decode and prefill speed of the decoder on this machine's cores.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

// Adds the sub-command; its callback runs it. Throws std::runtime_error.
void add_decode_cpu_command(CLI::App& app);

}  // namespace beryl::bench
