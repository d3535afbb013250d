#include "coordinator/text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "coordinator/text/utf8.h"
#include "tests/coordinator/text/oracle_cases.h"

namespace beryl::text {
namespace {

constexpr int32_t kByteZero = 24;  // id of <0x00> in the tiny vocabulary
constexpr int32_t kTurnOpen = 15;

class DetokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = testing::load_tiny();
    ASSERT_TRUE(tokenizer_);
  }
  std::vector<int32_t> bytes(std::string_view text) {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(kByteZero + static_cast<unsigned char>(c));
    return ids;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DetokenizerTest, NeverSplitsACodePoint) {
  Detokenizer detokenizer(*tokenizer_);
  const std::string text = "\xF0\x9F\x91\x8D";
  for (const int32_t id : bytes(text)) EXPECT_EQ(detokenizer.push({&id, 1}), "");
  const int32_t letter = (*tokenizer_->encode("in"))[0];
  EXPECT_EQ(detokenizer.push({&letter, 1}), text + "in");
}

TEST_F(DetokenizerTest, ABadByteSpoilsItsRunAsInHuggingFace) {
  EXPECT_EQ(decode(*tokenizer_, bytes("A\xFF"), true), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(decode(*tokenizer_, bytes("\xE6\x97"), true), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(decode(*tokenizer_, bytes("A\xE6\x97\xA5"), true), "A\xE6\x97\xA5");
}

TEST_F(DetokenizerTest, IncompleteBytesWaitUntilNothingCanComplete) {
  Detokenizer detokenizer(*tokenizer_);
  const auto ids = bytes("\xE6\x97(");
  EXPECT_EQ(detokenizer.push({ids.data(), 2}), "");
  EXPECT_EQ(detokenizer.push({ids.data() + 2, 1}), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(detokenizer.push({ids.data() + 2, 1}), "\xEF\xBF\xBD");  // still the same run
  EXPECT_EQ(detokenizer.flush(), "");
  EXPECT_EQ(detokenizer.push({ids.data() + 2, 1}), "");
  EXPECT_EQ(detokenizer.flush(), "(");
}

TEST_F(DetokenizerTest, LongRunsAreReleased) {
  Detokenizer detokenizer(*tokenizer_);
  std::string text, shown;
  for (int i = 0; i < 60; ++i) text += "\xF0\x93\x80\x80";
  for (const int32_t id : bytes(text)) {
    shown += detokenizer.push({&id, 1});
    EXPECT_TRUE(is_valid_utf8(shown));
  }
  EXPECT_GT(shown.size(), text.size() - kMaxHeldRunBytes - 5);
  shown += detokenizer.flush();
  EXPECT_EQ(shown, text);
}

TEST_F(DetokenizerTest, SkipsControlTokensIfAsked) {
  const std::vector<int32_t> ids = {kTurnOpen, 1023, -5, 99999, kTurnOpen};
  EXPECT_EQ(decode(*tokenizer_, ids, true), " add");
  EXPECT_EQ(decode(*tokenizer_, ids, false), "<|turn> add<|turn>");
}

TEST_F(DetokenizerTest, StreamsTheSameTextInAnyPieces) {
  std::mt19937 rng(5);
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> ids(1 + rng() % 40);
    for (int32_t& id : ids) {
      id = static_cast<int32_t>(rng() % 2 ? kByteZero + rng() % 256 : rng() % 1024);
    }
    Detokenizer detokenizer(*tokenizer_);
    std::string shown;
    for (size_t i = 0; i < ids.size();) {
      const size_t count = std::min<size_t>(1 + rng() % 3, ids.size() - i);
      shown += detokenizer.push({ids.data() + i, count});
      EXPECT_TRUE(is_valid_utf8(shown));
      i += count;
    }
    shown += detokenizer.flush();
    EXPECT_EQ(shown, decode(*tokenizer_, ids, true));
  }
}

}  // namespace
}  // namespace beryl::text
