#include "parallel/base/progress.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "parallel/base/printable.h"

namespace beryl::base {
namespace {

TEST(ProgressTest, CountsBytesOfAllThreadsAndReportsTheEnd) {
  ProgressState last;
  int num_reports = 0;
  Progress progress(
      4000,
      [&](const ProgressState& state) {
        last = state;
        ++num_reports;
      },
      std::chrono::milliseconds{0});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 100; ++j) progress.add(10);
    });
  }
  for (std::thread& thread : threads) thread.join();
  progress.finish();
  EXPECT_EQ(last.done_bytes, 4000u);
  EXPECT_EQ(last.total_bytes, 4000u);
  EXPECT_TRUE(last.finished);
  EXPECT_GT(last.bytes_per_s, 0);
  EXPECT_GT(num_reports, 1);
}

TEST(ProgressTest, AFileGetsPlainLines) {
  std::FILE* file = std::tmpfile();
  ASSERT_NE(file, nullptr);
  const ProgressListener listener = terminal_progress("weights", file);
  listener({.done_bytes = 5, .total_bytes = 10, .bytes_per_s = 1, .finished = false});
  listener(
      {.done_bytes = 1'500'000, .total_bytes = 3'000'000, .bytes_per_s = 2e9, .finished = true});
  std::rewind(file);
  std::string text(200, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  EXPECT_EQ(text, "weights 1.5 MB / 3.0 MB (50 %), 2.0 GB/s\n");
}

TEST(PrintableTest, UntrustedTextStaysOnOneLine) {
  EXPECT_EQ(printable("a\n\x1b[0m\xff"), "a\\x0a\\x1b[0m\\xff");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), kMaxPrintableBytes + 3);
}

}  // namespace
}  // namespace beryl::base
