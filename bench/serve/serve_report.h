// The report of a serving benchmark, with the names that `vllm bench serve` gives its figures.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/serve/serve_run.h"

namespace beryl::load {

struct ReportOptions {
  std::vector<std::string> metrics = {"ttft", "tpot", "itl", "e2el"};
  std::vector<double> percentiles = {99};
};

// Figures of the right answers alone. Percentiles are exact, nearest rank.
nlohmann::json report_figures(const ServeOptions& options, const ServeResult& result,
                              const ReportOptions& report);

// The block of text; `figures` as above.
std::string report_text(const nlohmann::json& figures, const ReportOptions& report);

}  // namespace beryl::load
