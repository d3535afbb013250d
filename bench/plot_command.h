// `beryl-bench plot`: the plots of reports that were written before.
#pragma once

#include <CLI/CLI.hpp>

namespace beryl::bench {

// Adds the sub-command; its callback runs it.
void add_plot_command(CLI::App& app);

}  // namespace beryl::bench
