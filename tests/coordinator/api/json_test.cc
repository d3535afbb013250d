#include "coordinator/api/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/api/json_writer.h"

namespace beryl::api {
namespace {

std::string param_of(std::string_view source) {
  JsonDocument document;
  const base::Status status = document.parse(source);
  return status ? "(parsed)" : status.error().param;
}

bool parses(std::string_view source) {
  return JsonDocument().parse(source).is_ok();
}

std::string nested(size_t depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  const std::vector<std::string> bad = {"",
                                        " ",
                                        "{",
                                        "}",
                                        "[",
                                        "[1,]",
                                        "{\"a\":1,}",
                                        "{a:1}",
                                        "{'a':1}",
                                        "nul",
                                        "True",
                                        "NaN",
                                        "Infinity",
                                        "-Infinity",
                                        "+1",
                                        "01",
                                        "-",
                                        "-01",
                                        "1.",
                                        ".5",
                                        "1e",
                                        "1e+",
                                        "0x10",
                                        "1_000",
                                        "\"",
                                        "\"\\x\"",
                                        "\"\\u12\"",
                                        "\"\\ud800\"",
                                        "\"\\udc00\"",
                                        "\"\\ud800\\u0041\"",
                                        "\"\n\"",
                                        "\"\t\"",
                                        "[1] 2",
                                        "{} {}",
                                        "{\"a\" 1}",
                                        "{\"a\":}",
                                        "{1:2}",
                                        "1e999",
                                        "-1e999",
                                        "[1 2]",
                                        "/**/1",
                                        "\xEF\xBB\xBF{}",
                                        "\"\x80\"",
                                        "\"\xC0\xAF\"",
                                        "\"\xED\xA0\x80\"",
                                        "\"\xF5\x80\x80\x80\"",
                                        "\"\xE2\x82\"",
                                        std::string("\"\0\"", 3)};
  for (const std::string& source : bad) {
    EXPECT_FALSE(parses(source)) << source;
    if (source != "\xEF\xBB\xBF{}") {
      EXPECT_FALSE(nlohmann::json::accept(source)) << source;
    }
  }
}

TEST(JsonTest, AgreesWithAnotherParser) {
  const std::vector<std::string> good = {
      "0",
      "-0",
      "1.5e3",
      "true",
      "false",
      "null",
      "\"\"",
      "[]",
      "{}",
      " [ 1 , 2 ] ",
      R"({"a":{"b":[1,-2.5,"x\n\u00e9\ud83d\ude00\\\/\"",null,true]},"c":""})",
      "9223372036854775807",
      "-9223372036854775808",
      "18446744073709551616",
      "\"\\u0000\""};
  for (const std::string& source : good) {
    JsonDocument document;
    ASSERT_TRUE(document.parse(source).is_ok()) << source;
    EXPECT_TRUE(nlohmann::json::accept(source)) << source;
  }
  JsonDocument document;
  ASSERT_TRUE(document.parse(good[10]).is_ok());
  const Json* list = document.root().find("a")->find("b");
  EXPECT_EQ(list->children[1].number, -2.5);
  EXPECT_EQ(list->children[2].text,
            nlohmann::json::parse(good[10])["a"]["b"][2].get<std::string>());
  EXPECT_EQ(list->raw, R"([1,-2.5,"x\n\u00e9\ud83d\ude00\\\/\"",null,true])");
}

TEST(JsonTest, KnowsIntegers) {
  const auto number = [](const char* source) {
    JsonDocument document;
    EXPECT_TRUE(document.parse(source).is_ok());
    return document.root();
  };
  EXPECT_TRUE(number("9223372036854775807").is_integer);
  EXPECT_FALSE(number("9223372036854775808").is_integer);
  EXPECT_TRUE(number("5.0").is_integer);
  EXPECT_EQ(number("1e3").integer, 1000);
  EXPECT_FALSE(number("5.5").is_integer);
  EXPECT_EQ(number("1e-999").number, 0);
}

TEST(JsonTest, LimitsDepth) {
  EXPECT_TRUE(parses(nested(64)));
  EXPECT_FALSE(parses(nested(65)));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(parses(nested(1'000'000)));
  EXPECT_FALSE(parses(std::string(1'000'000, '[')));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(500));
}

TEST(JsonTest, NamesTheFieldThatFails) {
  EXPECT_EQ(param_of(R"({"a":1,"temperature":NaN})"), "temperature");
  EXPECT_EQ(param_of(R"({"temperature":1e999})"), "temperature");
  EXPECT_EQ(param_of(R"({"messages":[{"role":"user"},{"content":bad}]})"), "messages[1].content");
  EXPECT_EQ(param_of(R"({"<x>":bad})"), "");
}

TEST(JsonTest, LastOfEqualKeysCounts) {
  JsonDocument document;
  ASSERT_TRUE(document.parse(R"({"a":1,"a":2})").is_ok());
  EXPECT_EQ(document.root().find("a")->integer, 2);
}

TEST(JsonTest, IsLinearInManyKeys) {
  std::string source = "{";
  for (int i = 0; i < 200'000; ++i) source += "\"k" + std::to_string(i) + "\":0,";
  source += "\"z\":1}";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(parses(source));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
}

TEST(JsonWriterTest, EscapesSoThatOthersReadTheSame) {
  std::string text = "a\"\\\n\r\t\b\f/\x7f é 😀";
  for (char c = 1; c < 0x20; ++c) text += c;
  text += '\0';
  std::string out;
  append_string(text, out);
  EXPECT_EQ(nlohmann::json::parse(out).get<std::string>(), text);
}

TEST(JsonWriterTest, WritesOnlyFiniteLogprobs) {
  std::string out;
  append_logprob(-std::numeric_limits<float>::infinity(), out);
  out += ' ';
  append_logprob(std::numeric_limits<float>::quiet_NaN(), out);
  out += ' ';
  append_logprob(-0.5F, out);
  EXPECT_EQ(out, "-9999 -9999 -0.5");
}

TEST(JsonWriterTest, ReplacesBytesThatAreNotText) {
  std::string out;
  append_lossy_string("a\xE2\x82z\xFF", out);
  EXPECT_EQ(nlohmann::json::parse(out).get<std::string>(), "a\uFFFD\uFFFDz\uFFFD");
}

}  // namespace
}  // namespace beryl::api
