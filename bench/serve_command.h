// `beryl-bench serve`: load on a running OpenAI-compatible server, with flags and figures named as
// in `vllm bench serve`.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

void add_serve_command(CLI::App& app);

}  // namespace beryl::bench
