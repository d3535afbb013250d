#include "coordinator/text/output_parser.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "coordinator/text/utf8.h"
#include "tests/coordinator/text/oracle_cases.h"

namespace beryl::text {
namespace {

// All deltas of an answer, joined.
struct Answer {
  std::string reasoning;
  std::string content;
  std::vector<std::string> calls;  // NAME + arguments

  bool operator==(const Answer&) const = default;
};

void collect(const std::vector<OutputDelta>& deltas, Answer& answer) {
  for (const OutputDelta& delta : deltas) {
    if (const auto* reasoning = std::get_if<ReasoningDelta>(&delta)) {
      answer.reasoning += reasoning->text;
    } else if (const auto* content = std::get_if<ContentDelta>(&delta)) {
      answer.content += content->text;
    } else if (const auto* start = std::get_if<ToolCallStart>(&delta)) {
      EXPECT_EQ(start->index, answer.calls.size());
      answer.calls.push_back(start->name);
    } else if (const auto* arguments = std::get_if<ToolCallArguments>(&delta)) {
      EXPECT_EQ(arguments->index + 1, answer.calls.size());
      answer.calls.back() += arguments->json;
    }
  }
}

class OutputParserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = testing::load_tiny();
    ASSERT_TRUE(tokenizer_);
    control_ = *ControlTokens::find(*tokenizer_);
  }

  OutputParser make(bool starts_in_reasoning = false, bool has_tools = true) {
    OutputParser::Options options;
    options.starts_in_reasoning = starts_in_reasoning;
    if (has_tools) options.tool_names = {"get_weather", "search"};
    return OutputParser(*tokenizer_, control_, options);
  }

  Answer parse_ids(OutputParser parser, const std::vector<int32_t>& ids, size_t step = 1) {
    Answer answer;
    std::vector<OutputDelta> deltas;
    for (size_t i = 0; i < ids.size(); i += step) {
      deltas.clear();
      parser.push({ids.data() + i, std::min(step, ids.size() - i)}, deltas);
      collect(deltas, answer);
    }
    deltas.clear();
    parser.finish(deltas);
    collect(deltas, answer);
    return answer;
  }

  // `text` with control strings.
  Answer parse(const std::string& text, bool starts_in_reasoning = false, bool has_tools = true) {
    const auto ids = *tokenizer_->encode_with_special(text);
    const Answer answer = parse_ids(make(starts_in_reasoning, has_tools), ids);
    for (const size_t step : {2, 3, 7, 1000}) {
      EXPECT_EQ(parse_ids(make(starts_in_reasoning, has_tools), ids, step), answer) << text;
    }
    return answer;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  ControlTokens control_;
};

TEST_F(OutputParserTest, PlainAnswerIsUnchanged) {
  EXPECT_EQ(parse(" Hi\n\n there \n<turn|>"), (Answer{"", " Hi\n\n there \n", {}}));
  EXPECT_EQ(parse("thought\nno label here"), (Answer{"", "thought\nno label here", {}}));
}

TEST_F(OutputParserTest, ReasoningIsSeparated) {
  EXPECT_EQ(parse("<|channel>thought\n First.\n\nThen.\n<channel|>\nHi<turn|>"),
            (Answer{"First.\n\nThen.", "Hi", {}}));
  EXPECT_EQ(parse("more.\n<channel|>Hi", true), (Answer{"more.", "Hi", {}}));
  EXPECT_EQ(parse("<|channel>thought\n<channel|>Hi"), (Answer{"", "Hi", {}}));
  EXPECT_EQ(parse("<|channel>thoughts<channel|>Hi"), (Answer{"thoughts", "Hi", {}}));
  EXPECT_EQ(parse("<|channel>thought<channel|>Hi"), (Answer{"", "Hi", {}}));
  EXPECT_EQ(parse("<|channel>thought\nunfinished \n"), (Answer{"unfinished", "", {}}));
  EXPECT_EQ(parse("A<|channel>thought\nb<channel|>C"), (Answer{"b", "AC", {}}));
}

TEST_F(OutputParserTest, CallsAreConverted) {
  EXPECT_EQ(parse("<|tool_call>call:get_weather{city:<|\"|>Rome<|\"|>,days:2}<tool_call|>"
                  "<|tool_response>"),
            (Answer{"", "", {R"(get_weather{"city":"Rome","days":2})"}}));
  EXPECT_EQ(
      parse("Wait.<|tool_call>call:search{}<tool_call|>\n<|tool_call>call:x.y-z{a:1}<tool_call|>"),
      (Answer{"", "Wait.", {"search{}", R"(x.y-z{"a":1})"}}));
  EXPECT_EQ(parse("<|channel>thought\nhm<|tool_call>call:search{q:<|\"|>é{<|\"|>}<tool_call|>"),
            (Answer{"hm", "", {R"(search{"q":"é{"})"}}));
}

TEST_F(OutputParserTest, FaultsOfTheModelAreTolerated) {
  const Answer expected{"", "", {R"(search{"q":"a"})"}};
  for (const char* text : {
           "<|tool_call>search{q:<|\"|>a<|\"|>}<tool_call|>",                   // no "call:"
           "call:search{q:<|\"|>a<|\"|>}<tool_call|>",                          // no opening marker
           "call:search{q:<|\"|>a<|\"|>}",                                      // no marker at all
           "<|tool_call>call:search(q:<|\"|>a<|\"|>)<tool_call|>",              // parentheses
           "<|tool_call>call:search{<|\"|>q<|\"|>:<|\"|>a<|\"|>}<tool_call|>",  // quoted key
           "<|tool_call>call:search{q:<|\"|>a}<tool_call|>",  // unterminated string
           "<|tool_call>call:search{q:<|\"|>a<|\"|>}<tool_call|><tool_call|>",
           "<channel|><|tool_call>call:search{q:<|\"|>a<|\"|>}<turn|>",
           "<|tool_call>call:search{q:<|\"|>a<|\"|>}<|tool_response>",
           "<|tool_call>call:search{q:<|\"|>a<|\"|>",
       }) {
    EXPECT_EQ(parse(text), expected) << text;
  }
  EXPECT_EQ(parse("<|tool_call><|\"|>call:<|\"|>search<|\"|>{}"), (Answer{"", "", {"search{}"}}));
  EXPECT_EQ(parse("<|tool_call>search<tool_call|>"), (Answer{"", "", {"search{}"}}));
  EXPECT_EQ(parse("<|tool_call>{a:1}<tool_call|>x"), (Answer{"", "x", {}}));
  EXPECT_EQ(parse("call:search{q:1} and so on"), (Answer{"", "and so on", {R"(search{"q":1})"}}));
}

TEST_F(OutputParserTest, TextLikeACallStaysText) {
  for (const char* text : {"call:other{a:1}", "call me", "call:", "call:search", "I call:search{}",
                           "call:searching{}"}) {
    EXPECT_EQ(parse(text), (Answer{"", text, {}})) << text;
  }
  EXPECT_EQ(parse("call:search{}", false, false), (Answer{"", "call:search{}", {}}));
}

TEST_F(OutputParserTest, WithoutDeclaredToolsCallsAreDropped) {
  EXPECT_EQ(parse("A<|tool_call>call:search{q:<|\"|>x<|\"|>}<tool_call|>B", false, false),
            (Answer{"", "AB", {}}));
  OutputParser parser = make(false, false);
  std::vector<OutputDelta> deltas;
  parser.push(*tokenizer_->encode_with_special("<|tool_call>call:search{}<tool_call|>"), deltas);
  EXPECT_TRUE(deltas.empty());
  EXPECT_EQ(parser.num_dropped_calls(), 1u);
  EXPECT_EQ(parser.num_tool_calls(), 0u);
}

TEST_F(OutputParserTest, NumberOfCallsIsLimited) {
  std::string text;
  for (size_t i = 0; i < kMaxToolCalls + 3; ++i) text += "<|tool_call>call:search{}<tool_call|>";
  EXPECT_EQ(parse(text).calls.size(), kMaxToolCalls);
}

TEST_F(OutputParserTest, TextOfACallIsLimitedToWholeCodePoints) {
  const auto ids = *tokenizer_->encode_with_special("<|tool_call>call:search{q:<|\"|>");
  const auto letter = *tokenizer_->encode("\u00e9\u65e5");
  std::vector<int32_t> endless = ids;
  for (size_t i = 0; i < kMaxToolCallBytes; i += 4) {
    endless.insert(endless.end(), letter.begin(), letter.end());
  }
  const Answer answer = parse_ids(make(), endless, 4096);
  ASSERT_EQ(answer.calls.size(), 1u);
  EXPECT_TRUE(nlohmann::json::accept(answer.calls[0].substr(answer.calls[0].find('{'))));
  EXPECT_LT(answer.calls[0].size(), kMaxToolCallBytes + 100);
}

TEST_F(OutputParserTest, NameComesBeforeTheArguments) {
  OutputParser parser = make();
  std::vector<OutputDelta> deltas;
  parser.push(*tokenizer_->encode_with_special("<|tool_call>call:search{q:"), deltas);
  ASSERT_EQ(deltas.size(), 1u);
  EXPECT_EQ(std::get<ToolCallStart>(deltas[0]).name, "search");
}

TEST_F(OutputParserTest, MarkersOutOfPlaceAreDropped) {
  EXPECT_EQ(parse("A<|\"|>B<tool|>C<|image|>D<pad>E<|think|>F<tool_response|>G<bos>"),
            (Answer{"", "ABCDEFG", {}}));
  EXPECT_EQ(parse("A<turn|>\n<|turn>model\nB"), (Answer{"", "AB", {}}));
}

TEST_F(OutputParserTest, RandomIdsNeverLeakMarkersOrDependOnPieces) {
  std::mt19937 rng(17);
  const int32_t markers[] = {control_.channel_open,   control_.channel_close,
                             control_.tool_call_open, control_.tool_call_close,
                             control_.quote,          control_.turn_open,
                             control_.turn_close,     control_.eos};
  const auto pieces = *tokenizer_->encode("call:search{q:a,b:[1]} thought\nmodel\n (x)}");
  for (int round = 0; round < 4000; ++round) {
    std::vector<int32_t> ids(rng() % 60);
    for (int32_t& id : ids) {
      const auto kind = rng() % 4;
      do {  // plain pieces that spell a marker are text
        id = kind == 0   ? markers[rng() % std::size(markers)]
             : kind == 1 ? static_cast<int32_t>(rng() % 1030)
                         : pieces[rng() % pieces.size()];
      } while (!tokenizer_->is_special(id) &&
               tokenizer_->token_bytes(id).find_first_of("<>") != std::string_view::npos);
    }
    const bool reasoning = rng() % 2;
    const bool tools = rng() % 4 != 0;
    const Answer answer = parse_ids(make(reasoning, tools), ids, 1);
    ASSERT_EQ(parse_ids(make(reasoning, tools), ids, 1 + rng() % 9), answer);
    ASSERT_TRUE(is_valid_utf8(answer.content) && is_valid_utf8(answer.reasoning));
    for (const std::string& text : {answer.content, answer.reasoning}) {
      ASSERT_EQ(text.find("<|"), std::string::npos) << text;
      ASSERT_EQ(text.find("|>"), std::string::npos) << text;
    }
    for (const std::string& call : answer.calls) {
      ASSERT_TRUE(nlohmann::json::accept(call.substr(call.find('{')))) << call;
    }
  }
}

}  // namespace
}  // namespace beryl::text
