#include "coordinator/text/json_value.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "coordinator/text/python_number.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

TEST(PythonNumberTest, PrintsAsPython) {
  const std::pair<const char*, const char*> kCases[] = {
      {"0", "0"},           {"-0", "0"},
      {"-0.0", "-0.0"},     {"42", "42"},
      {"1.0", "1.0"},       {"1E2", "100.0"},
      {"1e-7", "1e-07"},    {"0.0001", "0.0001"},
      {"0.00001", "1e-05"}, {"1e15", "1000000000000000.0"},
      {"1e16", "1e+16"},    {"1.5e300", "1.5e+300"},
      {"0.1", "0.1"},       {"123456789012345678901234567890", "123456789012345678901234567890"},
      {"1e999", "inf"},     {"-1e999", "-inf"},
      {"1e-999", "0.0"},    {"-12.5", "-12.5"},
      {"5e-324", "5e-324"}, {"2.50", "2.5"},
  };
  for (const auto& [json, python] : kCases) EXPECT_EQ(python_number(json), python) << json;
}

TEST(PythonNumberTest, RefusesWhatIsNoJsonNumber) {
  for (const char* bad :
       {"", "-", "01", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "1 ", "--1"}) {
    EXPECT_EQ(python_number(bad), "") << bad;
  }
}

TEST(JsonValueTest, MembersAreSortedAsByDictsort) {
  const auto value = parse_json_object(R"({"b":1,"A":2,"a":3,"B":4,"Ä":5,"ä":6,"_":7,"b":8})");
  ASSERT_TRUE(value);
  std::string keys, numbers;
  for (const auto& [key, member] : value->members) keys += key, numbers += member.text;
  EXPECT_EQ(keys, "_AabBÄä");
  EXPECT_EQ(numbers, "7238456");
}

TEST(JsonValueTest, ReadsStrings) {
  const auto value = parse_json_object(R"({"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 x"})");
  ASSERT_TRUE(value);
  EXPECT_EQ(value->find("a")->text, "\"\\/\b\f\n\r\té😀 x");
}

TEST(JsonValueTest, NullAndNothingAreNull) {
  for (const char* text : {"", "  ", "null", " null\n"}) {
    const auto value = parse_json_object(text);
    ASSERT_TRUE(value);
    EXPECT_TRUE(value->is(JsonValue::Kind::kNull));
  }
}

TEST(JsonValueTest, RefusesMalformedText) {
  for (const char* bad : {"{",
                          "[]",
                          "3",
                          "\"a\"",
                          "{\"a\"}",
                          "{\"a\":}",
                          "{\"a\":1,}",
                          "{a:1}",
                          "{\"a\":1}x",
                          "{\"a\":tru}",
                          "{\"a\":\"\\x\"}",
                          "{\"a\":\"\\ud800\"}",
                          "{\"a\":\"\\udc00\"}",
                          "{\"a\":\"\n\"}",
                          "{\"a\":[1,]}",
                          "{\"a\":[1 2]}",
                          "{\"a\":NaN}",
                          "{\"a\":\"\\u12\"}",
                          "{\"a\":01}",
                          "nul",
                          "{\"a\":\"\xFF\"}",
                          "\xFF",
                          "{\"a\":\"b"}) {
    EXPECT_FALSE(parse_json_object(bad)) << bad;
  }
}

TEST(JsonValueTest, DepthIsLimited) {
  const auto nested = [](size_t depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_TRUE(parse_json_object(nested(kMaxJsonDepth)));
  EXPECT_FALSE(parse_json_object(nested(kMaxJsonDepth + 2)));
  EXPECT_FALSE(parse_json_object(std::string(1000000, '[')));
  EXPECT_FALSE(parse_json_object("{\"a\":" + std::string(1000000, '[')));
}

TEST(JsonValueTest, ManyKeysTakeNearLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += "\"k" + std::to_string(i * 7919 % 200000) + "\":1,";
  text.back() = '}';
  const auto start = std::chrono::steady_clock::now();
  const auto value = parse_json_object(text);
  ASSERT_TRUE(value);
  EXPECT_EQ(value->members.size(), 200000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Utf8Test, TrimsAsPython) {
  EXPECT_EQ(trim(" \t\u00a0\u2003x y\u3000\n\x1f"), "x y");
  EXPECT_EQ(trim("\u200bx\u200b"), "\u200bx\u200b");
  EXPECT_EQ(trim("  "), "");
}

TEST(Utf8Test, TellsIncompleteFromInvalid) {
  EXPECT_EQ(check_utf8("a\xE6\x97").state, Utf8State::kIncomplete);
  EXPECT_EQ(check_utf8("a\xE6\x97").valid_bytes, 1u);
  for (const char* bad : {"\x80", "\xC1", "\xE0\x80", "\xED\xA0", "\xF5", "\xF4\x90", "\xC3("}) {
    EXPECT_EQ(check_utf8(bad).state, Utf8State::kInvalid) << bad;
  }
}

}  // namespace
}  // namespace beryl::text
