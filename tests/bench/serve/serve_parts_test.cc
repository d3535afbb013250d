// Arrivals, prompt lengths, pictures, metrics and the report.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "bench/serve/arrivals.h"
#include "bench/serve/endpoint.h"
#include "bench/serve/fit_text.h"
#include "bench/serve/picture_url.h"
#include "bench/serve/serve_report.h"
#include "bench/serve/server_metrics.h"

namespace beryl::load {
namespace {

TEST(ArrivalsTest, ArePoisson) {
  constexpr int kCount = 20'000;
  constexpr double kRate = 50;
  const std::vector<double> times = arrival_seconds(kCount, kRate, 7);
  EXPECT_EQ(times.front(), 0);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
  const double mean = times.back() / static_cast<double>(gaps.size());
  EXPECT_NEAR(mean, 1 / kRate, 0.03 / kRate) << "4 standard errors";
  double variance = 0;
  for (const double gap : gaps) variance += (gap - mean) * (gap - mean);
  variance /= static_cast<double>(gaps.size());
  EXPECT_NEAR(std::sqrt(variance), mean, 0.05 * mean) << "exponential: deviation = mean";
  const auto above = std::count_if(gaps.begin(), gaps.end(), [&](double g) { return g > mean; });
  EXPECT_NEAR(static_cast<double>(above) / kCount, std::exp(-1.0), 0.02);
}

TEST(ArrivalsTest, FollowTheSeed) {
  EXPECT_EQ(arrival_seconds(10, 3, 1), arrival_seconds(10, 3, 1));
  EXPECT_NE(arrival_seconds(10, 3, 1), arrival_seconds(10, 3, 2));
  EXPECT_EQ(arrival_seconds(3, 0, 1), std::vector<double>(3, 0.0));
}

// A template of 12 tokens, and one token for every two letters of a word.
int64_t count_tokens(const std::string& text) {
  int64_t count = 12;
  int64_t letters = 0;
  for (const char c : text + " ") {
    if (c != ' ') {
      ++letters;
    } else {
      count += (letters + 1) / 2;
      letters = 0;
    }
  }
  return count;
}

TEST(FitTextTest, GivesExactlySoManyTokens) {
  std::mt19937_64 random(1);
  std::vector<std::string> texts;
  for (int64_t wanted = 13; wanted <= 2000; wanted += wanted < 60 ? 1 : 97) {
    const auto text = fit_text(random, wanted, count_tokens);
    ASSERT_TRUE(text) << wanted;
    EXPECT_EQ(count_tokens(*text), wanted);
    if (wanted > 20) texts.push_back(*text);
  }
  std::sort(texts.begin(), texts.end());
  EXPECT_EQ(std::unique(texts.begin(), texts.end()), texts.end()) << "distinct";
}

TEST(FitTextTest, SaysWhatCannotBe) {
  std::mt19937_64 random(1);
  const auto too_short = fit_text(random, 12, count_tokens);
  ASSERT_FALSE(too_short);
  EXPECT_NE(too_short.error().message.find("13"), std::string::npos);
  EXPECT_FALSE(fit_text(random, 100, [](const std::string&) { return int64_t{-1}; }));
  const auto odd = [](const std::string& text) { return int64_t{2} * count_tokens(text); };
  EXPECT_FALSE(fit_text(random, 101, odd)) << "no text has an odd number";
}

TEST(PictureUrlTest, EncodesDistinctPictures) {
  EXPECT_EQ(base64("Man"), "TWFu");
  EXPECT_EQ(base64("Ma"), "TWE=");
  EXPECT_EQ(base64("M"), "TQ==");
  const std::string url = picture_url(40, 24, 1);
  EXPECT_TRUE(url.starts_with("data:image/jpeg;base64,/9j/")) << "the mark of a JPEG";
  EXPECT_EQ(url, picture_url(40, 24, 1));
  EXPECT_NE(url, picture_url(40, 24, 2));
}

TEST(ServerMetricsTest, SumsLabelSets) {
  const auto values = parse_metrics(
      "# HELP x y\nvllm:a{engine=\"0\"} 1.5\nvllm:a{engine=\"1\"} 2\nvllm:h_bucket{le=\"1\"} 9\n"
      "vllm:b 3\n");
  EXPECT_EQ(values.at("vllm:a"), 3.5);
  EXPECT_EQ(values.at("vllm:b"), 3);
  EXPECT_EQ(values.size(), 2U);
}

TEST(BaseUrlTest, IsTakenApart) {
  const auto url = parse_base_url("http://gpu1:8123/proxy/v1/");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "gpu1");
  EXPECT_EQ(url->port, 8123);
  EXPECT_EQ(url->path, "/proxy");
  EXPECT_EQ(parse_base_url("http://gpu1")->port, 80);
  for (const char* wrong :
       {"https://gpu1", "gpu1:8000", "http://:80", "http://a:9x", "http://a:"}) {
    EXPECT_FALSE(parse_base_url(wrong)) << wrong;
  }
}

RequestRecord record(double ttft_ms, double e2el_ms, int64_t output_tokens) {
  RequestRecord record;
  record.prompt_tokens = 10;
  record.output_tokens = output_tokens;
  record.ttft_ms = ttft_ms;
  record.e2el_ms = e2el_ms;
  record.itl_ms = {4, 6};
  record.text.assign(1, 'x');
  return record;
}

TEST(ReportTest, CountsRightAnswersAlone) {
  ServeResult result;
  result.seconds = 2;
  result.records = {record(100, 190, 10), record(200, 200, 1), record(1, 1, 1000)};
  result.records.back().error.append("broken");
  const ReportOptions options{.metrics = {"ttft", "tpot", "itl"}, .percentiles = {50, 99.9}};
  const auto figures = report_figures({}, result, options);
  EXPECT_EQ(figures["completed"], 2);
  EXPECT_EQ(figures["failed"], 1);
  EXPECT_EQ(figures["errors"]["broken"], 1);
  EXPECT_EQ(figures["total_input_tokens"], 20);
  EXPECT_EQ(figures["total_output_tokens"], 11);
  EXPECT_DOUBLE_EQ(figures["output_throughput"].get<double>(), 5.5);
  EXPECT_DOUBLE_EQ(figures["total_token_throughput"].get<double>(), 15.5);
  EXPECT_DOUBLE_EQ(figures["mean_ttft_ms"].get<double>(), 150);
  EXPECT_DOUBLE_EQ(figures["p99.9_ttft_ms"].get<double>(), 200);
  EXPECT_DOUBLE_EQ(figures["mean_tpot_ms"].get<double>(), 10) << "one token has no TPOT";
  EXPECT_DOUBLE_EQ(figures["mean_itl_ms"].get<double>(), 5);
  EXPECT_FALSE(figures.contains("mean_e2el_ms")) << "not asked for";
  const std::string text = report_text(figures, options);
  for (const char* line : {"Successful requests:", "Total Token throughput (tok/s):",
                           "Mean TTFT (ms):", "P99.9 ITL (ms):"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace beryl::load
