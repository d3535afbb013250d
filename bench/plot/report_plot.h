// What the reports of sub-commands look like: kernels, decode, prefill, serve.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace beryl::bench {

// An SVG. Empty for a report of another kind.
std::string plot_report(const nlohmann::json& report);

// The plot beside the report at `path`, as .svg: its name, or nothing for a report of another kind.
// Throws std::runtime_error.
std::string write_plot(const std::string& path, const nlohmann::json& report);

// The report itself, too.
void write_with_plot(const std::string& path, const nlohmann::json& report);

}  // namespace beryl::bench
