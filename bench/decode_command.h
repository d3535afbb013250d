// `beryl-bench decode` and `beryl-bench prefill`: speed of one rank's engine without a server,
// against what its device allows.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

void add_decode_command(CLI::App& app);
void add_prefill_command(CLI::App& app);

}  // namespace beryl::bench
