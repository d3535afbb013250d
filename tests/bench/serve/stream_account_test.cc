#include "bench/serve/stream_account.h"

#include <gtest/gtest.h>

#include "bench/serve/serve_run.h"

namespace beryl::load {
namespace {

using Clock = StreamAccount::Clock;
using std::chrono::milliseconds;

constexpr Clock::time_point kStart{};

const std::string kChatStream =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
    ": a comment\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{\"reasoning\":\"lo\",\"reasoning_content\":\"lo\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n"
    "data: [DONE]\n\n";

TEST(StreamAccountTest, TakesTokensFromUsageAndTimesFromText) {
  for (size_t piece = 1; piece <= kChatStream.size(); ++piece) {
    StreamAccount account;
    for (size_t at = 0; at < kChatStream.size(); at += piece) {
      account.feed(std::string_view(kChatStream).substr(at, piece),
                   kStart + milliseconds(1 + at / piece));
    }
    EXPECT_EQ(account.text(), "Hello") << piece;
    EXPECT_EQ(account.event_times().size(), 2U) << "the role and the end carry no text";
    EXPECT_EQ(account.prompt_tokens(), 7);
    EXPECT_EQ(account.completion_tokens(), 5);
    EXPECT_EQ(account.finish_reason(), "length");
    EXPECT_TRUE(account.is_finished());
    EXPECT_EQ(account.error(), "");
  }
}

TEST(StreamAccountTest, KnowsWhenEachEventCame) {
  StreamAccount account;
  const auto text = [](const char* t) {
    return std::string("data: {\"choices\":[{\"text\":\"") + t + "\"}]}\n\n";
  };
  account.feed(text("a"), kStart + milliseconds(10));
  account.feed(text(""), kStart + milliseconds(15));
  account.feed(text("b"), kStart + milliseconds(30));
  account.feed("data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n",
               kStart + milliseconds(40));
  account.feed("data: {\"choices\":[],\"usage\":{}}\n\n", kStart + milliseconds(50));
  const std::vector<Clock::time_point> expected = {kStart + milliseconds(10),
                                                   kStart + milliseconds(30)};
  EXPECT_EQ(account.event_times(), expected);
  EXPECT_EQ(account.last_event(), kStart + milliseconds(40)) << "usage is no part of the answer";
}

TEST(StreamAccountTest, ReportsErrorsAndMalformedEvents) {
  StreamAccount failed;
  failed.feed("data: {\"error\":{\"message\":\"out of memory\"}}\n\n", kStart);
  EXPECT_NE(failed.error().find("out of memory"), std::string::npos);
  StreamAccount malformed;
  malformed.feed("data: {\"choices\":[\n\n", kStart);
  EXPECT_NE(malformed.error().find("no JSON"), std::string::npos);
}

std::string fault_of(const std::string& stream, int output_tokens, int64_t prompt_tokens) {
  StreamAccount account;
  account.feed(stream, kStart);
  ServeOptions options;
  options.output_tokens = output_tokens;
  options.ignore_eos = true;
  return find_fault(options, {"", prompt_tokens}, account);
}

TEST(FindFaultTest, AcceptsARightAnswerAlone) {
  EXPECT_EQ(fault_of(kChatStream, 5, 7), "");
  EXPECT_EQ(fault_of(kChatStream, 5, -1), "");
  EXPECT_NE(fault_of(kChatStream, 6, 7), "") << "a token is missing";
  EXPECT_NE(fault_of(kChatStream, 4, 7), "") << "a token too many";
  EXPECT_NE(fault_of(kChatStream, 5, 8), "") << "the prompt was cut";
}

TEST(FindFaultTest, WantsTheWholeStream) {
  const auto without = [](const std::string& part) {
    std::string stream = kChatStream;
    stream.erase(stream.find(part), part.size());
    return stream;
  };
  EXPECT_NE(fault_of(without("data: [DONE]"), 5, 7), "");
  EXPECT_NE(fault_of(without(",\"finish_reason\":\"length\""), 5, 7), "");
  EXPECT_NE(fault_of(without(",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}"), 5, 7),
            "");
}

}  // namespace
}  // namespace beryl::load
