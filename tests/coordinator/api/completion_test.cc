#include <fmt/format.h>

#include <string>
#include <vector>

#include "tests/coordinator/api/api_fixture.h"

namespace beryl::api {
namespace {

class CompletionTest : public ApiFixture {
 protected:
  Json complete(const std::string& body) {
    const http::RawResponse response = post("/v1/completions", body);
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body);
  }
  std::vector<Json> stream(const std::string& body) {
    const http::RawResponse response = post("/v1/completions", body);
    EXPECT_EQ(response.status, 200) << response.body;
    return events_of(response.body);
  }
};

TEST_F(CompletionTest, AnswersWhole) {
  start();
  const Json body = complete(completion_body());
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["text"], "Hello there");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(engine_->last_request().max_tokens, 16U);
  EXPECT_EQ(engine_->last_request().prompt_token_ids.front(), chat_format_->control_tokens().bos);
  EXPECT_EQ(body["usage"]["prompt_tokens"], engine_->last_request().prompt_token_ids.size());
}

TEST_F(CompletionTest, TakesEveryFormOfPrompt) {
  start();
  EXPECT_EQ(complete(R"({"prompt":[5,6,7]})")["usage"]["prompt_tokens"], 3);
  const Json lists = complete(R"({"prompt":[[5,6],[7]],"n":2})");
  EXPECT_EQ(lists["choices"].size(), 4U);
  EXPECT_EQ(lists["usage"]["prompt_tokens"], 3);
  const Json strings = complete(R"({"prompt":["a","b","c"]})");
  ASSERT_EQ(strings["choices"].size(), 3U);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(strings["choices"][i]["index"], i);
}

TEST_F(CompletionTest, Streams) {
  start();
  const std::vector<Json> events =
      stream(completion_body(R"("stream":true,"stream_options":{"include_usage":true})"));
  std::string text;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    text += events[i]["choices"][0]["text"].get<std::string>();
    EXPECT_TRUE(events[i]["usage"].is_null());
  }
  EXPECT_EQ(text, "Hello there");
  EXPECT_EQ(events[events.size() - 3]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(events[events.size() - 2]["usage"]["completion_tokens"],
            ids_of("Hello there").size() + 1);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(CompletionTest, EchoesThePrompt) {
  start();
  EXPECT_EQ(complete(completion_body(R"("echo":true)"))["choices"][0]["text"], "HelloHello there");
  const std::vector<Json> events = stream(completion_body(R"("echo":true,"stream":true)"));
  std::string text;
  for (const Json& event : events) {
    if (event.is_object()) text += event["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, "HelloHello there");
}

// What evaluation harnesses send.
TEST_F(CompletionTest, ScoresAPromptWithoutGenerating) {
  start();
  const Json body = complete(completion_body(R"("echo":true,"max_tokens":0,"logprobs":2)"));
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["text"], "Hello");
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 0);
  const Json& logprobs = choice["logprobs"];
  const size_t num_prompt = body["usage"]["prompt_tokens"];
  ASSERT_EQ(logprobs["tokens"].size(), num_prompt);
  EXPECT_EQ(logprobs["token_logprobs"].size(), num_prompt);
  EXPECT_EQ(logprobs["top_logprobs"].size(), num_prompt);
  EXPECT_EQ(logprobs["text_offset"].size(), num_prompt);
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["token_logprobs"][1], -0.5);
  std::string text;
  for (size_t i = 1; i < num_prompt; ++i) text += logprobs["tokens"][i].get<std::string>();
  EXPECT_EQ(text, "Hello");
  EXPECT_EQ(logprobs["text_offset"][1], 0);
}

TEST_F(CompletionTest, GivesLogprobsOfTheOutput) {
  start();
  const Json body = complete(completion_body(R"("logprobs":0,"max_tokens":2)"));
  const Json& logprobs = body["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 2U);
  EXPECT_EQ(logprobs["top_logprobs"][0], Json::object());
  const std::vector<Json> events =
      stream(completion_body(R"("logprobs":1,"echo":true,"stream":true,"max_tokens":2)"));
  size_t num_tokens = 0;
  for (const Json& event : events) {
    if (event.is_object() && !event["choices"][0]["logprobs"].is_null()) {
      num_tokens += event["choices"][0]["logprobs"]["tokens"].size();
    }
  }
  EXPECT_EQ(num_tokens, 2 + engine_->last_request().prompt_token_ids.size());
}

TEST_F(CompletionTest, AppliesStopStrings) {
  set_output("one two three");
  start();
  const Json choice = complete(completion_body(R"("stop":["three","two"])"))["choices"][0];
  EXPECT_EQ(choice["text"], "one ");
  EXPECT_EQ(choice["stop_reason"], "two");
}

TEST_F(CompletionTest, ShowsControlTokensWhereAsked) {
  set_output("a<|channel>b");
  start();
  EXPECT_EQ(complete(completion_body())["choices"][0]["text"], "ab");
  EXPECT_EQ(complete(completion_body(R"("skip_special_tokens":false)"))["choices"][0]["text"],
            "a<|channel>b");
}

}  // namespace
}  // namespace beryl::api
