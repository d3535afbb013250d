#include "coordinator/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <string>
#include <vector>

namespace beryl::text {
namespace {

StopMatcher make(const std::vector<std::string>& stops, bool include = false) {
  auto matcher = StopMatcher::create(stops, {.include_stop_str_in_output = include});
  EXPECT_TRUE(matcher);
  return std::move(*matcher);
}

struct Result {
  std::string text;
  std::optional<size_t> stop;
  bool operator==(const Result&) const = default;
};

Result run(StopMatcher matcher, const std::vector<std::string>& pieces) {
  Result result;
  for (const std::string& piece : pieces) {
    auto output = matcher.push(piece);
    result.text += output.text;
    if (output.matched_stop) result.stop = output.matched_stop;
  }
  result.text += matcher.finish();
  return result;
}

// The plain definition: the earliest end, and of these the longest.
Result slow(const std::vector<std::string>& stops, const std::string& text, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const bool ends = text.substr(0, end).ends_with(stops[i]);
      if (ends && (!best || stops[i].size() > stops[*best].size())) best = i;
    }
    if (best) return {text.substr(0, include ? end : end - stops[*best].size()), best};
  }
  return {text, std::nullopt};
}

TEST(StopMatcherTest, HoldsBackWhatMayBecomeAStop) {
  StopMatcher matcher = make({"STOP", "\n\n"});
  EXPECT_EQ(matcher.push("abST").text, "ab");
  EXPECT_EQ(matcher.push("A\n").text, "STA");
  EXPECT_EQ(matcher.push("x").text, "\nx");
  EXPECT_EQ(matcher.push("ST").text, "");
  const auto output = matcher.push("OP and more");
  EXPECT_EQ(output.text, "");
  EXPECT_EQ(output.matched_stop, 0u);
  EXPECT_EQ(matcher.push("later").text, "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcherTest, FinishReleasesWhatIsHeld) {
  StopMatcher matcher = make({"STOP"});
  EXPECT_EQ(matcher.push("a STO").text, "a ");
  EXPECT_EQ(matcher.finish(), "STO");
}

TEST(StopMatcherTest, WithoutStopsTextPasses) {
  StopMatcher matcher = make({});
  EXPECT_EQ(matcher.push("abc").text, "abc");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcherTest, MayIncludeTheStop) {
  EXPECT_EQ(run(make({"##"}, true), {"a#", "#b"}), (Result{"a##", 0}));
}

TEST(StopMatcherTest, HoldsWholeCodePoints) {
  StopMatcher matcher = make({"\xC3\xA9"});              // é
  EXPECT_EQ(matcher.push("\xC3\xA8").text, "\xC3\xA8");  // è shares the first byte
}

TEST(StopMatcherTest, AgreesWithThePlainDefinition) {
  std::mt19937 rng(3);
  const auto random_string = [&rng](size_t max_size) {
    std::string text(1 + rng() % max_size, ' ');
    for (char& c : text) c = static_cast<char>('a' + rng() % 2);
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(1 + rng() % 4);
    for (std::string& stop : stops) stop = random_string(6);
    const std::string text = random_string(20);
    std::vector<std::string> pieces;
    for (size_t i = 0; i < text.size();) {
      pieces.push_back(text.substr(i, 1 + rng() % 4));
      i += pieces.back().size();
    }
    const bool include = rng() % 2;
    const Result expected = slow(stops, text, include);
    const Result got = run(make(stops, include), pieces);
    ASSERT_EQ(got.text, expected.text) << text;
    ASSERT_EQ(got.stop.has_value(), expected.stop.has_value());
    if (got.stop) {
      ASSERT_EQ(stops[*got.stop], stops[*expected.stop]);
    }
  }
}

TEST(StopMatcherTest, RefusesBadStops) {
  EXPECT_FALSE(StopMatcher::create({""}, {}));
  EXPECT_FALSE(StopMatcher::create({std::string(kMaxStopBytes + 1, 'x')}, {}));
  EXPECT_FALSE(StopMatcher::create(std::vector<std::string>(kMaxStopStrings + 1, "x"), {}));
  const auto error = StopMatcher::create({"a", ""}, {});
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().param, "stop");
}

// Every stop almost matches at every place.
TEST(StopMatcherTest, LongStopsTakeLinearTime) {
  std::vector<std::string> stops;
  for (size_t i = 0; i < kMaxStopStrings; ++i) {
    stops.push_back(std::string(kMaxStopBytes - 1 - i, 'a') + "b");
  }
  StopMatcher matcher = make(stops);
  const auto start = std::chrono::steady_clock::now();
  std::string shown;
  for (int i = 0; i < 20000; ++i) shown += matcher.push("aaaaaaaaaaaaaaac").text;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(shown.size(), 320000u);
}

}  // namespace
}  // namespace beryl::text
