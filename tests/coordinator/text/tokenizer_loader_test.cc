// Malformed tokenizer files: each ends with one line that names the file and the problem.
#include "coordinator/text/tokenizer_loader.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/coordinator/text/oracle_cases.h"

namespace beryl::text {
namespace {

using Json = nlohmann::ordered_json;

// A small vocabulary: control tokens 0 and 1, letters, "ab" and all bytes.
Json small_tokenizer() {
  Json json = Json::parse(R"({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                     {"id": 1, "content": "<|turn>", "special": true}],
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    "pre_tokenizer": null,
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
      "vocab": {"<unk>": 0, "<|turn>": 1, "a": 2, "b": 3, "c": 4, "ab": 5, "▁": 6},
      "merges": [["a", "b"]]}})");
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    json["model"]["vocab"][name] = 7 + byte;
  }
  return json;
}

class TokenizerLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            ("beryl_tokenizer_" + std::to_string(::getpid()) + ".json");
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string load_error(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
    const auto tokenizer = Tokenizer::load(path_);
    return tokenizer ? std::string() : tokenizer.error().message;
  }
  std::string load_error(const std::function<void(Json&)>& change) {
    Json json = small_tokenizer();
    change(json);
    return load_error(json.dump());
  }

  std::string path_;
};

struct BadFile {
  const char* expected;  // part of the message
  std::function<void(Json&)> change;
};

TEST_F(TokenizerLoaderTest, ReadsTheSmallFile) {
  EXPECT_EQ(load_error([](Json&) {}), "");
  const auto tokenizer = testing::load_tokenizer(path_);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(*tokenizer->encode("ab c<|turn>"),
            (std::vector<int32_t>{5, 6, 4, 7 + '<', 7 + '|', 7 + 't', 7 + 'u', 7 + 'r', 7 + 'n',
                                  7 + '>'}));
}

TEST_F(TokenizerLoaderTest, ReadsMergesOfTheOlderForm) {
  EXPECT_EQ(load_error([](Json& j) { j["model"]["merges"] = {"a b"}; }), "");
}

TEST_F(TokenizerLoaderTest, NamesTheProblem) {
  const BadFile kBadFiles[] = {
      {"lacks \"model\"", [](Json& j) { j.erase("model"); }},
      {"model is not an object", [](Json& j) { j["model"] = 3; }},
      {"model.type is not BPE", [](Json& j) { j["model"]["type"] = "Unigram"; }},
      {"lacks \"vocab\"", [](Json& j) { j["model"].erase("vocab"); }},
      {"model.vocab is not an object", [](Json& j) { j["model"]["vocab"] = Json::array(); }},
      {"model.vocab is empty",
       [](Json& j) { j["model"]["vocab"] = Json::object(), j["added_tokens"] = Json::array(); }},
      {"is not an integer", [](Json& j) { j["model"]["vocab"]["a"] = "2"; }},
      {"is not an integer", [](Json& j) { j["model"]["vocab"]["a"] = 2.5; }},
      {"out of range", [](Json& j) { j["model"]["vocab"]["a"] = -2; }},
      {"out of range", [](Json& j) { j["model"]["vocab"]["a"] = 1 << 20; }},
      {"belongs to both", [](Json& j) { j["model"]["vocab"]["a"] = 3; }},
      {"empty piece", [](Json& j) { j["model"]["vocab"][""] = 300; }},
      {"longer than", [](Json& j) { j["model"]["vocab"][std::string(2000, 'x')] = 300; }},
      {"lacks \"added_tokens\"", [](Json& j) { j.erase("added_tokens"); }},
      {"added_tokens is not a list", [](Json& j) { j["added_tokens"] = "x"; }},
      {"added_tokens[0] is not an object", [](Json& j) { j["added_tokens"][0] = 1; }},
      {"added_tokens[1] lacks \"id\"", [](Json& j) { j["added_tokens"][1].erase("id"); }},
      {"added_tokens[1].content is not a string",
       [](Json& j) { j["added_tokens"][1]["content"] = 7; }},
      {"the id 5, model.vocab the id 1", [](Json& j) { j["added_tokens"][1]["id"] = 5; }},
      {"comes twice", [](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }},
      {"lstrip = true is not supported", [](Json& j) { j["added_tokens"][0]["lstrip"] = true; }},
      {"special is not true or false", [](Json& j) { j["added_tokens"][0]["special"] = "yes"; }},
      {"lacks \"merges\"", [](Json& j) { j["model"].erase("merges"); }},
      {"model.merges is not a list", [](Json& j) { j["model"]["merges"] = 1; }},
      {"merges[0] is not a pair", [](Json& j) { j["model"]["merges"][0] = {"a"}; }},
      {"merges[0] is not a pair", [](Json& j) { j["model"]["merges"][0] = "ab"; }},
      {"merges[0] is not a pair",
       [](Json& j) {
         j["model"]["merges"][0] = {"a", 1};
       }},
      {"merges[1] names \"q\"",
       [](Json& j) {
         j["model"]["merges"].push_back({"q", "a"});
       }},
      {"merges[1] names \"ac\"",
       [](Json& j) {
         j["model"]["merges"].push_back({"a", "c"});
       }},
      {"text may not become",
       [](Json& j) {
         j["model"]["merges"][0] = {"<|turn>", "b"};
       }},
      {"text may not become",
       [](Json& j) {
         j["model"]["merges"][0] = {"a", "<0x41>"};
       }},
      {"unk_token \"<nix>\"", [](Json& j) { j["model"]["unk_token"] = "<nix>"; }},
      {"model.dropout is not supported", [](Json& j) { j["model"]["dropout"] = 0.1; }},
      {"ignore_merges", [](Json& j) { j["model"]["ignore_merges"] = true; }},
      {"byte_fallback is not true", [](Json& j) { j["model"]["byte_fallback"] = 1; }},
      {"unsupported normalizer", [](Json& j) { j["normalizer"]["type"] = "NFC"; }},
      {"lacks \"normalizer\"", [](Json& j) { j.erase("normalizer"); }},
      {"unsupported pre_tokenizer",
       [](Json& j) {
         j["pre_tokenizer"] = {{"type", "ByteLevel"}};
       }},
      {"unsupported decoder", [](Json& j) { j["decoder"]["decoders"].erase(1); }},
      {"unsupported decoder", [](Json& j) { j["decoder"] = nullptr; }},
  };
  for (const BadFile& bad : kBadFiles) {
    const std::string message = load_error(bad.change);
    EXPECT_NE(message.find(bad.expected), std::string::npos) << bad.expected << ": " << message;
    EXPECT_EQ(message.find(path_), 0u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST_F(TokenizerLoaderTest, RefusesWhatIsNoJson) {
  EXPECT_NE(load_error(""), "");
  EXPECT_NE(load_error("{"), "");
  EXPECT_NE(load_error("[]"), "");
  EXPECT_NE(load_error("\xFF\xFE"), "");
  const std::string whole = small_tokenizer().dump();
  for (size_t size = 1; size < whole.size(); size += 97) {
    EXPECT_NE(load_error(whole.substr(0, size)), "") << size;
  }
  EXPECT_FALSE(Tokenizer::load("/nonexistent/tokenizer.json"));
  EXPECT_FALSE(Tokenizer::load("/tmp"));
}

TEST_F(TokenizerLoaderTest, DuplicateKeysAreFound) {
  std::string text = small_tokenizer().dump();
  const std::string key = "\"c\":4";
  text.replace(text.find(key), key.size(), "\"c\":4,\"c\":290");
  EXPECT_NE(load_error(text).find("comes twice"), std::string::npos);
}

TEST_F(TokenizerLoaderTest, TextDoesNotBecomeAnAddedTokenOfOneLetter) {
  EXPECT_EQ(load_error([](Json& j) {
              j["added_tokens"].push_back({{"id", 4}, {"content", "c"}, {"special", true}});
            }),
            "");
  const auto tokenizer = testing::load_tokenizer(path_);
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(*tokenizer->encode("ac"), (std::vector<int32_t>{2, 7 + 'c'}));
  EXPECT_EQ(*tokenizer->encode_with_special("ac"), (std::vector<int32_t>{2, 4}));
}

TEST_F(TokenizerLoaderTest, UnknownTokensFuseLikeHuggingFace) {
  Json json = small_tokenizer();
  json["model"]["byte_fallback"] = false;
  ASSERT_EQ(load_error(json.dump()), "");
  const auto fused = testing::load_tokenizer(path_);
  EXPECT_EQ(*fused->encode("xyaz"), (std::vector<int32_t>{0, 2, 0}));
  json["model"]["fuse_unk"] = false;
  ASSERT_EQ(load_error(json.dump()), "");
  const auto single = testing::load_tokenizer(path_);
  EXPECT_EQ(*single->encode("xyaz"), (std::vector<int32_t>{0, 0, 2, 0}));
}

}  // namespace
}  // namespace beryl::text
