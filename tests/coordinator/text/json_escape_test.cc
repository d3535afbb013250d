#include "coordinator/text/json_escape.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace beryl::text {
namespace {

// What follows the backslash; the whole of it must be used.
bool decodes(std::string_view source, std::string& out) {
  size_t position = 0;
  out.clear();
  return read_json_escape(source, position, out) && position == source.size();
}

TEST(JsonEscapeTest, DecodesEveryKind) {
  std::string out;
  EXPECT_TRUE(decodes("n", out) && out == "\n");
  EXPECT_TRUE(decodes("/", out) && out == "/");
  EXPECT_TRUE(decodes("u00E9", out) && out == "\xC3\xA9");
  EXPECT_TRUE(decodes("u0000", out) && out == std::string(1, '\0'));
  EXPECT_TRUE(decodes(R"(ud83d\uDE00)", out) && out == "\xF0\x9F\x98\x80");
}

TEST(JsonEscapeTest, RefusesWhatIsCutOff) {
  constexpr std::string_view kPair = R"(ud83d\ude00)";
  std::string out;
  for (size_t length = 0; length < kPair.size(); ++length) {
    EXPECT_FALSE(decodes(kPair.substr(0, length), out)) << length;
  }
}

TEST(JsonEscapeTest, RefusesWhatJsonDoesNotKnow) {
  std::string out;
  for (const std::string_view bad : {"x", "u12g4", "u-123", "u+123", "udc00", R"(ud800\u0041)",
                                     R"(ud800\n)", R"(ud800\ud800)"}) {
    EXPECT_FALSE(decodes(bad, out)) << bad;
  }
}

}  // namespace
}  // namespace beryl::text
