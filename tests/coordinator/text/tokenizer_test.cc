#include "coordinator/text/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "tests/coordinator/text/oracle_cases.h"

namespace beryl::text {
namespace {

using testing::load_tiny;

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  EXPECT_TRUE(ids);
  return ids ? *ids : std::vector<int32_t>{};
}

std::string repeated(std::string_view unit, size_t num_bytes) {
  std::string text;
  while (text.size() < num_bytes) text += unit;
  return text;
}

TEST(TokenizerTest, AgreesWithRecordedIds) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  EXPECT_GT(testing::check_oracle_file(*tokenizer, testing::test_data("text/tokenizer_tiny.txt")),
            200u);
}

TEST(TokenizerTest, PlainTextNeverYieldsControlTokens) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  for (int32_t control = 0; control < tokenizer->vocab_size(); ++control) {
    if (!tokenizer->is_special(control)) continue;
    const std::string text(tokenizer->token_text(control));
    const auto ids = encode(*tokenizer, text);
    EXPECT_GT(ids.size(), 1u) << text;
    for (const int32_t id : ids) EXPECT_FALSE(tokenizer->is_special(id)) << text;
    EXPECT_EQ(decode(*tokenizer, ids, true), text);
    EXPECT_EQ(*tokenizer->encode_with_special(text), std::vector<int32_t>{control});
    EXPECT_EQ(tokenizer->special_id(text), control);
  }
  EXPECT_FALSE(tokenizer->special_id("<|turn").has_value());
}

TEST(TokenizerTest, ByteTokensAsTextStayText) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  for (const int32_t id : encode(*tokenizer, "<0x41>")) EXPECT_FALSE(tokenizer->is_byte_token(id));
}

TEST(TokenizerTest, RefusesInvalidUtf8) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  for (const std::string_view bad :
       {"\xFF", "a\x80", "\xC0\xAF", "\xE2\x96", "\xED\xA0\x80", "\xF4\x90\x80\x80", "ok \xC3("}) {
    const auto ids = tokenizer->encode(bad);
    ASSERT_FALSE(ids) << bad;
    EXPECT_EQ(ids.error().code, base::ErrorCode::kInvalidArgument);
    EXPECT_FALSE(tokenizer->encode_with_special(bad));
  }
  EXPECT_TRUE(encode(*tokenizer, "").empty());
  EXPECT_EQ(encode(*tokenizer, std::string_view("\0", 1)).size(), 1u);
}

TEST(TokenizerTest, RefusesTextsBeyondTheLimit) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  EXPECT_FALSE(tokenizer->encode(std::string(kMaxEncodeBytes + 1, 'a')));
}

// A quadratic merge would take minutes for these.
TEST(TokenizerTest, AdversarialTextsTakeNearLinearTime) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  for (const std::string_view unit : {"a", " ", "\n", "ab", "in", "\xE6\x97\xA5", "=-", "e "}) {
    const auto start = std::chrono::steady_clock::now();
    const std::string text = repeated(unit, 1 << 20);
    const auto ids = encode(*tokenizer, text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10)) << unit;
    EXPECT_EQ(decode(*tokenizer, ids, true), text);
  }
}

TEST(TokenizerTest, ThreadsShareOneTokenizer) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  const std::string text = "def __init__(self): return None  # the quick brown fox\n";
  const auto expected = encode(*load_tiny(), text);
  std::vector<std::vector<int32_t>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) result = *tokenizer->encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(TokenizerTest, TellsAboutSingleIds) {
  const auto tokenizer = load_tiny();
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->vocab_size(), 1024);
  EXPECT_EQ(tokenizer->token_text(1023),
            "\xE2\x96\x81"
            "add");
  EXPECT_EQ(tokenizer->token_bytes(1023), " add");
  EXPECT_EQ(tokenizer->token_bytes(24 + 0x0A), "\n");
  EXPECT_TRUE(tokenizer->is_byte_token(24 + 0x0A));
  for (const int32_t id : {-1, 1024, INT32_MAX, INT32_MIN}) {
    EXPECT_FALSE(tokenizer->exists(id));
    EXPECT_FALSE(tokenizer->is_special(id));
    EXPECT_EQ(tokenizer->token_bytes(id), "");
  }
}

}  // namespace
}  // namespace beryl::text
