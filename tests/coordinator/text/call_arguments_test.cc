#include "coordinator/text/call_arguments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace beryl::text {
namespace {

// `$` stands for a quote token.
std::string json_of(std::string body, bool is_complete = true) {
  std::replace(body.begin(), body.end(), '$', kQuoteByte);
  return call_arguments_to_json(body, is_complete);
}

TEST(CallArgumentsTest, ReadsTheNotationOfTheModel) {
  const std::pair<const char*, const char*> kCases[] = {
      {"}", "{}"},
      {"", "{}"},
      {"city:$Rome$,days:2}", R"({"city":"Rome","days":2})"},
      {"a:true,b:false,c:null,d:-1.5e+3}", R"({"a":true,"b":false,"c":null,"d":-1.5e+3})"},
      {"a:$$}", R"({"a":""})"},
      {"a:$x{},:[]\"\\\n$}", R"({"a":"x{},:[]\"\\\n"})"},
      {"o:{b:[1,$x$,[],{}],c:{}},z:1}", R"({"o":{"b":[1,"x",[],{}],"c":{}},"z":1})"},
      {" a : 1 , b : $x$ }", R"({"a":1,"b":"x"})"},
      {"$a b$:1}", R"({"a b":1})"},
      {" a$:1}", R"({"a\"":1})"},
      {"\"a\":\"x\\ny\"}", R"({"a":"x\ny"})"},
      {"a:bare words,b:2}", R"({"a":"bare words","b":2})"},
      {"a:007,b:+1,c:.5}", R"({"a":"007","b":"+1","c":".5"})"},
      {"a:None,b:True,c:False}", R"({"a":null,"b":true,"c":false})"},
      {"a:}", R"({"a":null})"},
      {"a}", R"({"a":null})"},
      {",,a:1,,b:2,}", R"({"a":1,"b":2})"},
      {"a:1)", R"({"a":1})"},
      {"a:$x$)", R"({"a":"x"})"},
      {"a:[1,2}", R"({"a":[1,2]})"},
      {"a:1]}", R"({"a":1})"},
      {"a:$x$ junk $,$,b:2}", R"({"a":"x","b":2})"},
      {"a:say \"hi\", ok}", R"({"a":"say \"hi\"","ok":null})"},
  };
  for (const auto& [body, json] : kCases) EXPECT_EQ(json_of(body), json) << body;
}

TEST(CallArgumentsTest, UnterminatedStrings) {
  EXPECT_EQ(json_of("city:$Rome}", true), R"({"city":"Rome"})");
  EXPECT_EQ(json_of("a:{b:[$Rome]}}", true), R"({"a":{"b":["Rome"]}})");
  EXPECT_EQ(json_of("code:$int main() {}", false), R"({"code":"int main() {}"})");
  EXPECT_EQ(json_of("city:$Ro", false), R"({"city":"Ro"})");
}

TEST(CallArgumentsTest, DepthIsLimited) {
  const std::string deep(100000, '[');
  EXPECT_TRUE(nlohmann::json::accept(json_of("a:" + deep)));
  EXPECT_TRUE(nlohmann::json::accept(json_of("a:" + deep + std::string(100000, ']') + "}")));
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "a:{";
  EXPECT_TRUE(nlohmann::json::accept(json_of(objects)));
}

TEST(CallArgumentsTest, AnythingGivesAValidObjectInLinearTime) {
  std::mt19937 rng(9);
  const std::string alphabet = "{}[](),:$\"\\ \nab1-.eé";
  for (int round = 0; round < 20000; ++round) {
    std::string body(rng() % 30, ' ');
    for (char& c : body) c = alphabet[rng() % (alphabet.size() - 2)];
    const std::string json = json_of(body, rng() % 2);
    const auto parsed = nlohmann::json::parse(json, nullptr, false);
    ASSERT_TRUE(parsed.is_object()) << body << " -> " << json;
  }
  const auto start = std::chrono::steady_clock::now();
  for (const std::string unit :
       {"{", "[", "$", "\"", ",\"", "a:", "a:[", "a:\"\\", "(", ":,", "]"}) {
    std::string body;
    while (body.size() < 300000) body += unit;
    ASSERT_TRUE(nlohmann::json::accept(json_of(body))) << unit;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace beryl::text
