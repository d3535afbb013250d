#include "bench/plot/report_plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/plot/bar_chart.h"

namespace beryl::bench {
namespace {

using nlohmann::json;

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(BarChartTest, BarsAreAsLongAsTheirValues) {
  const std::string svg = bar_chart_svg(
      "a < b", {{"panel", "ms", 0, {{"whole", 40, {}}, {"quarter", 10, "note"}, {"none", 0, {}}}}});
  EXPECT_EQ(svg.rfind("<svg xmlns=", 0), 0U);
  EXPECT_NE(svg.find("a &lt; b"), std::string::npos);
  EXPECT_EQ(count(svg, "class=\"bar\""), 3U);
  EXPECT_EQ(count(svg, "width=\"360.0\""), 1U);
  EXPECT_EQ(count(svg, "width=\"90.0\""), 1U);
  EXPECT_EQ(count(svg, "width=\"0.0\""), 1U);
  EXPECT_NE(svg.find("10 ms  note"), std::string::npos);
}

TEST(BarChartTest, ValuesBeyondTheScaleAndOddNamesStayInside) {
  const std::string svg =
      bar_chart_svg("t", {{"p", "%", 100, {{"</text><script>", 250, {}}, {"nan", NAN, {}}}}});
  EXPECT_EQ(svg.find("<script>"), std::string::npos);
  EXPECT_EQ(count(svg, "width=\"360.0\""), 1U);
  EXPECT_EQ(count(svg, "width=\"0.0\""), 1U);
}

TEST(ReportPlotTest, ShowsEachKindOfReport) {
  const json kernels = {{"device", "a GPU"},
                        {"kernels",
                         {{{"name", "linear/rows:1"},
                           {"percent_of_bandwidth", 50},
                           {"percent_of_matmul_peak", 2},
                           {"us_median", 12.5}}}}};
  EXPECT_NE(plot_report(kernels).find("linear/rows:1"), std::string::npos);
  EXPECT_NE(plot_report(kernels).find("width=\"180.0\""), std::string::npos);
  const json decode = {
      {"device", "a GPU"},
      {"decode",
       {{{"batch_size", 16}, {"context", 512}, {"tokens_per_s", 700}, {"percent_of_limit", 57}},
        {{"batch_size", 99}, {"context", 512}, {"left_out", "too large"}}}}};
  EXPECT_NE(plot_report(decode).find("batch 16, context 512"), std::string::npos);
  EXPECT_EQ(plot_report(decode).find("batch 99"), std::string::npos);
  const json prefill = {
      {"device", "a GPU"},
      {"prefill", {{{"num_tokens", 8192}, {"tokens_per_s", 24'000}, {"percent_of_limit", 22}}}}};
  EXPECT_NE(plot_report(prefill).find("8192 tokens"), std::string::npos);
  const json serve = {{"output_throughput", 2501.0},
                      {"median_ttft_ms", 515.0},
                      {"completed", 300},
                      {"max_concurrency", 100}};
  EXPECT_NE(plot_report(serve).find("2501 tokens/s"), std::string::npos);
  EXPECT_NE(plot_report(serve).find("515 ms"), std::string::npos);
  EXPECT_EQ(plot_report({{"vision", 1}}), "");
  EXPECT_EQ(plot_report(json::array()), "");
}

}  // namespace
}  // namespace beryl::bench
