#include "bench/plot_command.h"

#include <fmt/format.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/plot/report_plot.h"

namespace beryl::bench {
namespace {

void plot(const std::string& path) {
  std::ifstream in(path);
  const nlohmann::json report = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (report.is_discarded()) throw std::runtime_error(path + ": expected a report in JSON");
  const std::string svg = write_plot(path, report);
  if (svg.empty()) {
    throw std::runtime_error(path + ": expected a report of kernels, decode, prefill or serve");
  }
  fmt::print("written: {}\n", svg);
}

}  // namespace

void add_plot_command(CLI::App& app) {
  auto paths = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("plot", "Plots of reports, beside them as .svg");
  command->add_option("FILE", *paths, "Reports that --json wrote")
      ->required()
      ->check(CLI::ExistingFile);
  command->callback([paths] {
    for (const std::string& path : *paths) plot(path);
  });
}

}  // namespace beryl::bench
