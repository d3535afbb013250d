#include "bench/plot/report_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>
#include <vector>

#include "bench/plot/bar_chart.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

constexpr double kPercent = 100;

double number(const json& entry, const char* name) {
  const auto found = entry.find(name);
  return found != entry.end() && found->is_number() ? found->get<double>() : 0;
}

std::string device_of(const json& report) {
  return report.value("device", std::string("unknown device"));
}

std::string plot_kernels(const json& report) {
  Panel panel = {"Each operation, of the copy bandwidth or the product rate, whichever is nearer",
                 "%",
                 kPercent,
                 {}};
  for (const json& one : report["kernels"]) {
    const double share =
        std::max(number(one, "percent_of_bandwidth"), number(one, "percent_of_matmul_peak"));
    panel.bars.push_back({one.value("name", std::string()), share,
                          fmt::format("{:.1f} us", number(one, "us_median"))});
  }
  return bar_chart_svg("Kernels on " + device_of(report), {panel});
}

// `name_of`: what tells one result from the others.
template <typename NameOf>
std::string plot_engine(const json& report, const char* kind, const NameOf& name_of) {
  Panel speed = {"Speed", "tokens/s", 0, {}};
  Panel share = {"Of the limit of the bytes and products that are needed", "%", kPercent, {}};
  for (const json& one : report[kind]) {
    if (one.contains("left_out")) continue;
    speed.bars.push_back({name_of(one), number(one, "tokens_per_s"), {}});
    share.bars.push_back({name_of(one), number(one, "percent_of_limit"), {}});
  }
  return bar_chart_svg(fmt::format("{} on {}", kind, device_of(report)), {speed, share});
}

std::string plot_serve(const json& report) {
  Panel speed = {"Throughput", "tokens/s", 0, {}};
  speed.bars.push_back({"output", number(report, "output_throughput"), {}});
  speed.bars.push_back({"prompts and output", number(report, "total_token_throughput"), {}});
  std::vector<Panel> panels = {speed};
  const std::pair<const char*, const char*> kinds[] = {
      {"ttft", "Time to the first token"}, {"itl", "Between tokens"}, {"e2el", "Whole requests"}};
  for (const auto& [kind, title] : kinds) {
    Panel panel = {title, "ms", 0, {}};
    for (const char* figure : {"mean", "median", "p99"}) {
      panel.bars.push_back(
          {figure, number(report, fmt::format("{}_{}_ms", figure, kind).c_str()), {}});
    }
    panels.push_back(std::move(panel));
  }
  return bar_chart_svg(fmt::format("{:.0f} requests, {:.0f} at a time", number(report, "completed"),
                                   number(report, "max_concurrency")),
                       panels);
}

void write_text(const std::string& file, const std::string& text) {
  std::ofstream out(file);
  out << text;
  out.close();
  if (!out) throw std::runtime_error("cannot write " + file);
}

}  // namespace

std::string plot_report(const json& report) {
  if (!report.is_object()) return {};
  if (report.contains("kernels")) return plot_kernels(report);
  if (report.contains("decode")) {
    return plot_engine(report, "decode", [](const json& one) {
      return fmt::format("batch {}, context {}", number(one, "batch_size"), number(one, "context"));
    });
  }
  if (report.contains("prefill")) {
    return plot_engine(report, "prefill", [](const json& one) {
      return fmt::format("{} tokens", number(one, "num_tokens"));
    });
  }
  if (report.contains("output_throughput")) return plot_serve(report);
  return {};
}

std::string write_plot(const std::string& path, const json& report) {
  const std::string svg = plot_report(report);
  if (svg.empty()) return {};
  const std::string file = std::filesystem::path(path).replace_extension(".svg").string();
  write_text(file, svg);
  return file;
}

void write_with_plot(const std::string& path, const json& report) {
  write_text(path, report.dump(1) + "\n");
  (void)write_plot(path, report);
}

}  // namespace beryl::bench
