#include "coordinator/metrics/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "coordinator/metrics/server_metrics.h"

namespace beryl::metrics {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsRegistryTest, RendersCountersWithEscapedLabels) {
  Registry registry;
  registry.counter({"beryl_x_total", "Things.", {"a", "b"}}).with({"q\"\\\n", "2"}).add(3);
  EXPECT_EQ(registry.render(),
            "# HELP beryl_x_total Things.\n# TYPE beryl_x_total counter\n"
            "beryl_x_total{a=\"q\\\"\\\\\\n\",b=\"2\"} 3\n");
}

TEST(MetricsRegistryTest, RendersGauges) {
  Registry registry;
  registry.gauge({"beryl_g", "G.", {}}).with({}).set(0.25);
  EXPECT_THAT(registry.render(), HasSubstr("\nberyl_g 0.25\n"));
}

TEST(MetricsRegistryTest, HistogramBucketsAreCumulativeAndIncludeTheirBound) {
  Registry registry;
  Histogram& histogram = registry.histogram({"h", "H.", {"k"}}, {1, 2, 5}).with({"v"});
  for (double value : {0.5, 1.0, 1.5, 5.0, 6.0}) histogram.observe(value);
  EXPECT_EQ(registry.render(),
            "# HELP h H.\n# TYPE h histogram\n"
            "h_bucket{k=\"v\",le=\"1\"} 2\nh_bucket{k=\"v\",le=\"2\"} 3\n"
            "h_bucket{k=\"v\",le=\"5\"} 4\nh_bucket{k=\"v\",le=\"+Inf\"} 5\n"
            "h_sum{k=\"v\"} 14\nh_count{k=\"v\"} 5\n");
}

TEST(MetricsRegistryTest, SameLabelsGiveTheSameChild) {
  Registry registry;
  Family<Counter>& family = registry.counter({"c", "C.", {"l"}});
  EXPECT_EQ(&family.with({"x"}), &family.with({"x"}));
  EXPECT_NE(&family.with({"x"}), &family.with({"y"}));
}

TEST(MetricsRegistryTest, LabelSetsAreBounded) {
  Registry registry;
  Family<Counter>& family = registry.counter({"c", "C.", {"l"}});
  for (size_t i = 0; i < 2 * kMaxChildrenPerFamily; ++i) family.with({std::to_string(i)}).add();
  EXPECT_EQ(family.with({"other"}).value(), kMaxChildrenPerFamily);
  EXPECT_THAT(registry.render(), Not(HasSubstr("l=\"1001\"")));
}

TEST(MetricsRegistryTest, CountsFromSeveralThreads) {
  Registry registry;
  Counter& counter = registry.counter({"c", "C.", {}}).with({});
  Histogram& histogram = registry.histogram({"h", "H.", {}}, {1}).with({});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10'000; ++i) {
        counter.add();
        histogram.observe(0.5);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 40'000U);
  EXPECT_EQ(histogram.count(), 40'000U);
  EXPECT_DOUBLE_EQ(histogram.sum(), 20'000.0);
}

TEST(MetricsRegistryTest, CollectorsRunBeforeRendering) {
  Registry registry;
  Gauge& gauge = registry.gauge({"g", "G.", {}}).with({});
  registry.add_collector([&gauge] { gauge.add(1); });
  EXPECT_THAT(registry.render(), HasSubstr("\ng 1\n"));
  EXPECT_THAT(registry.render(), HasSubstr("\ng 2\n"));
}

TEST(ServerMetricsTest, KeepsTheNamesThatDashboardsKnow) {
  Registry registry;
  ServerMetrics metrics(registry, "gemma");
  EngineMetrics& engine = metrics.engine(1);
  EXPECT_EQ(&engine, &metrics.engine(1));
  engine.num_requests_running.set(2);
  engine.finished_stop.add();
  engine.time_to_first_token_s.observe(0.05);
  const std::string text = registry.render();
  for (const char* line :
       {"vllm:num_requests_running{model_name=\"gemma\",engine=\"1\"} 2\n",
        "vllm:num_requests_waiting{model_name=\"gemma\",engine=\"1\"} 0\n",
        "vllm:kv_cache_usage_perc{", "vllm:prompt_tokens_total{", "vllm:generation_tokens_total{",
        "vllm:request_success_total{model_name=\"gemma\",engine=\"1\",finished_reason=\"stop\"} 1",
        "vllm:time_to_first_token_seconds_bucket{model_name=\"gemma\",engine=\"1\",le=\"0.06\"} 1",
        "vllm:inter_token_latency_seconds_count{", "vllm:e2e_request_latency_seconds_sum{",
        "vllm:request_params_n_count{model_name=\"gemma\"} 0", "# TYPE http_requests_total counter",
        "process_resident_memory_bytes "}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace beryl::metrics
