#include "bench/serve/serve_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "bench/load/percentiles.h"

namespace beryl::load {
namespace {

using nlohmann::json;

constexpr int kWidth = 50;  // of the block, in columns
constexpr size_t kMaxErrors = 10;

struct Metric {
  const char* name;
  const char* title;
  const char* label;
};

constexpr Metric kMetrics[] = {{"ttft", "Time to First Token", "TTFT"},
                               {"tpot", "Time per Output Token (excl. 1st token)", "TPOT"},
                               {"itl", "Inter-token Latency", "ITL"},
                               {"e2el", "End-to-end Latency", "E2EL"}};

bool is_wanted(const ReportOptions& report, const Metric& metric) {
  return std::find(report.metrics.begin(), report.metrics.end(), metric.name) !=
         report.metrics.end();
}

std::map<std::string, Percentiles> samples_of(const ServeResult& result) {
  std::map<std::string, Percentiles> samples;
  for (const RequestRecord& record : result.records) {
    if (!record.error.empty()) continue;
    samples["ttft"].add(record.ttft_ms);
    samples["e2el"].add(record.e2el_ms);
    if (record.output_tokens > 1) {
      samples["tpot"].add((record.e2el_ms - record.ttft_ms) /
                          static_cast<double>(record.output_tokens - 1));
    }
    for (const double itl : record.itl_ms) samples["itl"].add(itl);
  }
  return samples;
}

std::string line(const std::string& label, const std::string& value) {
  return fmt::format("{:<40} {:<10}\n", label + ":", value);
}

std::string heading(const std::string& title, char fill) {
  const size_t space = kWidth - std::min<size_t>(kWidth, title.size());
  return std::string(space / 2, fill) + title + std::string(space - space / 2, fill) + "\n";
}

}  // namespace

json report_figures(const ServeOptions& options, const ServeResult& result,
                    const ReportOptions& report) {
  int64_t completed = 0;
  int64_t input = 0;
  int64_t output = 0;
  size_t events = 0;
  std::map<std::string, int> errors;
  for (const RequestRecord& record : result.records) {
    if (!record.error.empty()) {
      ++errors[record.error];
      continue;
    }
    ++completed;
    input += record.prompt_tokens;
    output += record.output_tokens;
    events += record.itl_ms.size() + (record.text.empty() ? 0 : 1);
  }
  const auto rate = [&](int64_t count) {
    return result.seconds > 0 ? static_cast<double>(count) / result.seconds : 0;
  };
  json figures = {
      {"num_prompts", result.records.size()},
      {"completed", completed},
      {"failed", static_cast<int64_t>(result.records.size()) - completed},
      {"max_concurrency", options.max_concurrency},
      {"request_rate", options.request_rate > 0 ? json(options.request_rate) : "inf"},
      {"late_starts", result.late_starts},
      {"duration", result.seconds},
      {"total_input_tokens", input},
      {"total_output_tokens", output},
      {"request_throughput", rate(completed)},
      {"output_throughput", rate(output)},
      {"total_token_throughput", rate(input + output)},
      {"output_events", events},
      {"client_cores", result.seconds > 0 ? result.client_cpu_seconds / result.seconds : 0.0}};
  for (const auto& [error, count] : errors) {
    if (figures["errors"].size() < kMaxErrors) figures["errors"][error] = count;
  }
  const std::map<std::string, Percentiles> samples = samples_of(result);
  for (const Metric& metric : kMetrics) {
    const auto it = samples.find(metric.name);
    if (!is_wanted(report, metric) || it == samples.end()) continue;
    const std::string end = fmt::format("_{}_ms", metric.name);
    figures["mean" + end] = it->second.mean();
    figures["median" + end] = it->second.at(0.5);
    figures["std" + end] = it->second.stddev();
    for (const double percentile : report.percentiles) {
      figures[fmt::format("p{:g}{}", percentile, end)] = it->second.at(percentile / 100);
    }
  }
  return figures;
}

std::string report_text(const json& figures, const ReportOptions& report) {
  const auto count = [&](const char* name) { return std::to_string(figures[name].get<int64_t>()); };
  const auto number = [&](const std::string& name) {
    return fmt::format("{:.2f}", figures[name].get<double>());
  };
  std::string out = heading(" Serving Benchmark Result ", '=');
  out += line("Successful requests", count("completed"));
  out += line("Failed requests", count("failed"));
  if (figures["max_concurrency"].get<int>() > 0) {
    out += line("Maximum request concurrency", count("max_concurrency"));
  }
  if (figures["request_rate"].is_number()) {
    out += line("Request rate configured (RPS)", number("request_rate"));
    out += line("Requests started late", count("late_starts"));
  }
  out += line("Benchmark duration (s)", number("duration"));
  out += line("Total input tokens", count("total_input_tokens"));
  out += line("Total generated tokens", count("total_output_tokens"));
  out += line("Request throughput (req/s)", number("request_throughput"));
  out += line("Output token throughput (tok/s)", number("output_throughput"));
  out += line("Total Token throughput (tok/s)", number("total_token_throughput"));
  out += line("Events with text", count("output_events"));
  out += line("Cores used by this client", number("client_cores"));
  for (const Metric& metric : kMetrics) {
    const std::string end = fmt::format("_{}_ms", metric.name);
    if (!figures.contains("mean" + end)) continue;
    out += heading(metric.title, '-');
    out += line(fmt::format("Mean {} (ms)", metric.label), number("mean" + end));
    out += line(fmt::format("Median {} (ms)", metric.label), number("median" + end));
    for (const double percentile : report.percentiles) {
      const std::string name = fmt::format("{:g}", percentile);
      out += line(fmt::format("P{} {} (ms)", name, metric.label),
                  number(fmt::format("p{}{}", name, end)));
    }
  }
  return out + std::string(kWidth, '=') + "\n";
}

}  // namespace beryl::load
