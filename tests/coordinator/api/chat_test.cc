#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/coordinator/api/api_fixture.h"

namespace beryl::api {
namespace {

class ChatTest : public ApiFixture {
 protected:
  Json chat(std::string_view members = "") {
    const http::RawResponse response = post("/v1/chat/completions", chat_body(members));
    EXPECT_EQ(response.status, 200) << response.body;
    return Json::parse(response.body);
  }
  std::vector<Json> stream(std::string_view members = "") {
    std::string all = R"("stream":true)";
    if (!members.empty()) all.append(",").append(members);
    const http::RawResponse response = post("/v1/chat/completions", chat_body(all));
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
    EXPECT_EQ(response.headers.at("cache-control"), "no-cache");
    return events_of(response.body);
  }
  // The joined deltas of one field of a choice.
  static std::string joined(const std::vector<Json>& events, const char* field, int choice = 0) {
    std::string text;
    for (const Json& event : events) {
      if (!event.is_object()) continue;
      for (const Json& one : event["choices"]) {
        if (one["index"] == choice && one["delta"].contains(field)) {
          text += one["delta"][field].get<std::string>();
        }
      }
    }
    return text;
  }
  static constexpr const char* kTools =
      R"("tools":[{"type":"function","function":{"name":"get_weather","description":"d",)"
      R"("parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}])";
  static constexpr const char* kToolOutput =
      "<|tool_call>call:get_weather{city:<|\"|>Rome<|\"|>}<tool_call|>";
};

TEST_F(ChatTest, AnswersWhole) {
  start();
  const Json body = chat(R"("max_tokens":100)");
  EXPECT_TRUE(body["id"].get<std::string>().starts_with("chatcmpl-"));
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "tiny");
  EXPECT_TRUE(body["created"].is_number_integer());
  EXPECT_TRUE(body["system_fingerprint"].is_string());
  ASSERT_EQ(body["choices"].size(), 1U);
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["index"], 0);
  EXPECT_EQ(choice["message"],
            Json::parse(R"({"role":"assistant","content":"Hello there","refusal":null})"));
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["stop_reason"].is_null());
  const Json& usage = body["usage"];
  EXPECT_EQ(usage["completion_tokens"], ids_of("Hello there").size() + 1);
  EXPECT_EQ(usage["prompt_tokens"], engine_->last_request().prompt_token_ids.size());
  EXPECT_EQ(usage["total_tokens"],
            usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
  EXPECT_EQ(usage["prompt_tokens_details"]["cached_tokens"], 0);
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 0);
}

TEST_F(ChatTest, StreamsInTheOrderThatClientsExpect) {
  start();
  const std::vector<Json> events = stream();
  ASSERT_GE(events.size(), 4U);
  EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(events[0]["choices"][0]["delta"], Json::parse(R"({"role":"assistant","content":""})"));
  EXPECT_TRUE(events[0]["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(joined(events, "content"), "Hello there");
  const Json& last = events[events.size() - 2];
  EXPECT_EQ(last["choices"][0]["delta"], Json::object());
  EXPECT_EQ(last["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(events.back(), "[DONE]");
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    EXPECT_EQ(events[i]["id"], events[0]["id"]);
    EXPECT_FALSE(events[i].contains("usage"));
  }
}

TEST_F(ChatTest, StreamsUsageWhereAsked) {
  start();
  std::vector<Json> events = stream(R"("stream_options":{"include_usage":true})");
  ASSERT_GE(events.size(), 5U);
  const Json& usage_chunk = events[events.size() - 2];
  EXPECT_EQ(usage_chunk["choices"], Json::array());
  EXPECT_EQ(usage_chunk["usage"]["completion_tokens"], ids_of("Hello there").size() + 1);
  for (size_t i = 0; i + 2 < events.size(); ++i) EXPECT_TRUE(events[i]["usage"].is_null());
  events = stream(R"("stream_options":{"include_usage":true,"continuous_usage_stats":true})");
  EXPECT_EQ(events[0]["usage"]["completion_tokens"], 0);
  EXPECT_EQ(events[events.size() - 3]["usage"], events[events.size() - 2]["usage"]);
}

TEST_F(ChatTest, NeverSplitsACodePoint) {
  set_output("a é 😀 日本 z");
  start();
  const std::vector<Json> events = stream();  // parsing would fail on broken UTF-8
  EXPECT_EQ(joined(events, "content"), "a é 😀 日本 z");
}

TEST_F(ChatTest, SeparatesReasoningFromTheAnswer) {
  set_output("<|channel>thought\nhm hm<channel|>The answer");
  start();
  const Json message = chat()["choices"][0]["message"];
  EXPECT_EQ(message["content"], "The answer");
  EXPECT_EQ(message["reasoning"], "hm hm");
  EXPECT_EQ(message["reasoning_content"], "hm hm");
  const std::vector<Json> events = stream();
  EXPECT_EQ(joined(events, "content"), "The answer");
  EXPECT_EQ(joined(events, "reasoning"), "hm hm");
  EXPECT_EQ(joined(events, "reasoning_content"), "hm hm");
  EXPECT_GT(chat()["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
  EXPECT_FALSE(chat(R"("include_reasoning":false)")["choices"][0]["message"].contains("reasoning"));
}

TEST_F(ChatTest, ShowsReasoningInTheFieldThatIsConfigured) {
  set_output("<|channel>thought\nhm<channel|>x");
  options_.reasoning_field = ReasoningField::kReasoning;
  start();
  EXPECT_FALSE(chat()["choices"][0]["message"].contains("reasoning_content"));
  EXPECT_EQ(joined(stream(), "reasoning_content"), "");
  EXPECT_EQ(joined(stream(), "reasoning"), "hm");
}

TEST_F(ChatTest, ReturnsToolCalls) {
  set_output(kToolOutput);
  start();
  const Json choice = chat(kTools)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  ASSERT_EQ(choice["message"]["tool_calls"].size(), 1U);
  const Json& call = choice["message"]["tool_calls"][0];
  EXPECT_EQ(call["type"], "function");
  EXPECT_TRUE(call["id"].get<std::string>().starts_with("call_"));
  EXPECT_EQ(call["function"]["name"], "get_weather");
  EXPECT_EQ(Json::parse(call["function"]["arguments"].get<std::string>()),
            Json::parse(R"({"city":"Rome"})"));
}

TEST_F(ChatTest, StreamsToolCalls) {
  set_output(kToolOutput);
  start();
  const std::vector<Json> events = stream(kTools);
  std::string arguments;
  std::string name;
  int num_starts = 0;
  for (const Json& event : events) {
    if (!event.is_object()) continue;
    const Json& delta = event["choices"][0]["delta"];
    if (!delta.contains("tool_calls")) continue;
    const Json& call = delta["tool_calls"][0];
    EXPECT_EQ(call["index"], 0);
    if (call.contains("id")) {
      ++num_starts;
      EXPECT_EQ(call["type"], "function");
      name = call["function"]["name"];
    } else {
      EXPECT_FALSE(call.contains("type"));
      EXPECT_FALSE(call["function"].contains("name"));
    }
    arguments += call["function"]["arguments"].get<std::string>();
  }
  EXPECT_EQ(num_starts, 1);
  EXPECT_EQ(name, "get_weather");
  EXPECT_EQ(Json::parse(arguments), Json::parse(R"({"city":"Rome"})"));
  EXPECT_EQ(events[events.size() - 2]["choices"][0]["finish_reason"], "tool_calls");
}

TEST_F(ChatTest, GivesOneCallWhereParallelCallsAreOff) {
  set_output(std::string(kToolOutput) + kToolOutput);
  start();
  EXPECT_EQ(chat(kTools)["choices"][0]["message"]["tool_calls"].size(), 2U);
  EXPECT_EQ(chat(std::string(kTools) +
                 R"(,"parallel_tool_calls":false)")["choices"][0]["message"]["tool_calls"]
                .size(),
            1U);
}

TEST_F(ChatTest, StopsAtStopStringsAndCancelsTheRest) {
  set_output("one two three four five");
  start();
  engine_->allow_tokens(12);  // the engine never comes to its own end
  const Json choice = chat(R"("stop":["xyz","two"])")["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "one ");
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], "two");
  EXPECT_TRUE(eventually([this] { return engine_->num_open() == 0; }));
  EXPECT_EQ(engine_->num_aborted(), 1U);
  engine_->allow_tokens(-1);
  EXPECT_EQ(
      chat(R"("stop":"two","include_stop_str_in_output":true)")["choices"][0]["message"]["content"],
      "one two");
  EXPECT_EQ(joined(stream(R"("stop":"three")"), "content"), "one two ");
  EXPECT_EQ(joined(stream(R"("stop":"five six")"), "content"), "one two three four five");
}

TEST_F(ChatTest, StopsAtTokenIds) {
  set_output("abc");
  start();
  const int32_t id = script_.back();
  const Json choice = chat(fmt::format("\"stop_token_ids\":[{}]", id))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], id);
  const cluster::GenerationRequest request = engine_->last_request();
  EXPECT_EQ(request.stop_token_ids.back(), id);
  EXPECT_EQ(request.stop_token_ids.size(), 4U);  // with the three of the model
  chat(R"("ignore_eos":true,"max_tokens":7)");
  EXPECT_TRUE(engine_->last_request().stop_token_ids.empty());
}

TEST_F(ChatTest, EndsByLength) {
  start();
  const Json body = chat(R"("max_tokens":50,"max_completion_tokens":1)");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 1);
}

TEST_F(ChatTest, GivesSeveralChoices) {
  start();
  const Json body = chat(R"("n":3,"seed":-7)");
  ASSERT_EQ(body["choices"].size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["message"]["content"], "Hello there");
  }
  EXPECT_EQ(body["usage"]["completion_tokens"], 3 * (ids_of("Hello there").size() + 1));
  EXPECT_EQ(engine_->last_request().sampling.seed, static_cast<uint64_t>(-7));
  EXPECT_EQ(engine_->last_request().sampling.choice, 2U);
  const std::vector<Json> events = stream(R"("n":2)");
  EXPECT_EQ(joined(events, "content", 0), "Hello there");
  EXPECT_EQ(joined(events, "content", 1), "Hello there");
  int num_finished = 0;
  for (const Json& event : events) {
    if (event.is_object() && !event["choices"][0]["finish_reason"].is_null()) ++num_finished;
  }
  EXPECT_EQ(num_finished, 2);
}

TEST_F(ChatTest, GivesLogprobsWithBytes) {
  set_output("é");
  start();
  const Json body = chat(R"("logprobs":true,"top_logprobs":2)");
  const Json& content = body["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), ids_of("é").size() + 1);
  std::string bytes;
  for (size_t i = 0; i + 1 < content.size(); ++i) {
    for (const auto& byte : content[i]["bytes"]) bytes += static_cast<char>(byte.get<int>());
    EXPECT_EQ(content[i]["top_logprobs"].size(), 2U);
    EXPECT_EQ(content[i]["logprob"], -0.5);
  }
  EXPECT_EQ(bytes, "é");
  const std::vector<Json> events = stream(R"("logprobs":true)");
  size_t num_entries = 0;
  for (const Json& event : events) {
    if (!event.is_object() || event["choices"][0]["logprobs"].is_null()) continue;
    num_entries += event["choices"][0]["logprobs"]["content"].size();
  }
  EXPECT_EQ(num_entries, content.size());
}

TEST_F(ChatTest, GivesTokenIdsAndPromptLogprobs) {
  start();
  const Json body = chat(R"("return_token_ids":true,"prompt_logprobs":1)");
  EXPECT_EQ(body["prompt_token_ids"].size(), body["usage"]["prompt_tokens"]);
  EXPECT_EQ(body["choices"][0]["token_ids"].size(), body["usage"]["completion_tokens"]);
  EXPECT_EQ(body["prompt_logprobs"].size(), body["usage"]["prompt_tokens"]);
  EXPECT_TRUE(body["prompt_logprobs"][0].is_null());
  EXPECT_TRUE(body["prompt_logprobs"][1].is_object());
  size_t num_ids = 0;
  for (const Json& event : stream(R"("return_token_ids":true)")) {
    if (event.is_object()) num_ids += event["choices"][0]["token_ids"].size();
  }
  EXPECT_EQ(num_ids, body["usage"]["completion_tokens"]);
}

TEST_F(ChatTest, HandsSamplingToTheEngine) {
  options_.sampling = {
      .temperature = 0.7F, .top_p = 0.95F, .min_p = {}, .repetition_penalty = {}, .top_k = 64};
  start();
  chat();
  const scheduler::SamplingParams defaults = engine_->last_request().sampling;
  EXPECT_EQ(defaults.temperature, 0.7F);
  EXPECT_EQ(defaults.top_p, 0.95F);
  EXPECT_EQ(defaults.top_k, 64U);
  chat(R"("temperature":0,"top_p":0.5,"top_k":-1,"min_p":0.1,"repetition_penalty":1.5,)"
       R"("presence_penalty":-1,"frequency_penalty":2,"seed":5,"min_tokens":2,"priority":-3,)"
       R"("logit_bias":{"7":-100,"8":3.5},"allowed_token_ids":[1,2],"max_tokens":9)");
  const cluster::GenerationRequest request = engine_->last_request();
  const scheduler::SamplingParams& sampling = request.sampling;
  EXPECT_EQ(sampling.temperature, 0.0F);
  EXPECT_EQ(sampling.top_p, 0.5F);
  EXPECT_EQ(sampling.top_k, 0U);
  EXPECT_EQ(sampling.min_p, 0.1F);
  EXPECT_EQ(sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(sampling.presence_penalty, -1.0F);
  EXPECT_EQ(sampling.frequency_penalty, 2.0F);
  EXPECT_EQ(sampling.seed, 5U);
  EXPECT_EQ(sampling.min_tokens, 2U);
  EXPECT_EQ(sampling.logit_bias.size(), 2U);
  EXPECT_EQ(sampling.allowed_token_ids.size(), 2U);
  EXPECT_EQ(sampling.num_top_logprobs, -1);
  EXPECT_EQ(request.priority, -3);
  EXPECT_EQ(request.max_tokens, 9U);
}

TEST_F(ChatTest, ChoosesSeedsAtRandomWhereNoneIsGiven) {
  start();
  chat();
  const uint64_t first = engine_->last_request().sampling.seed;
  chat();
  EXPECT_NE(engine_->last_request().sampling.seed, first);
}

TEST_F(ChatTest, TurnsThinkingOnAndOff) {
  start();
  const auto prompt_of = [&](std::string_view members) {
    chat(members);
    return engine_->last_request().prompt_token_ids;
  };
  const std::vector<int32_t> off = prompt_of("");
  const std::vector<int32_t> on = prompt_of(R"("chat_template_kwargs":{"enable_thinking":true})");
  EXPECT_NE(on, off);
  EXPECT_EQ(prompt_of(R"("reasoning_effort":"high")"), on);
  EXPECT_EQ(prompt_of(R"("reasoning_effort":"none")"), off);
  EXPECT_EQ(
      prompt_of(R"("reasoning_effort":"low","chat_template_kwargs":{"enable_thinking":false})"),
      off);
}

TEST_F(ChatTest, EndsFailedRequestsWithAnError) {
  start();
  engine_->set_paused(true);
  http::RawClient whole(port());
  http::RawClient streamed(port());
  whole.send(http::post_request("/v1/chat/completions", chat_body()));
  streamed.send(http::post_request("/v1/chat/completions", chat_body(R"("stream":true)")));
  ASSERT_TRUE(eventually([this] { return engine_->num_open() == 2; }));
  engine_->fail_all("rank 1 on host /secret/path 0xdeadbeef failed");
  const http::RawResponse response = whole.read_response();
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.headers.at("x-should-retry"), "false");
  EXPECT_EQ(response.body.find("secret"), std::string::npos);
  const std::string body = streamed.read_response().body;
  EXPECT_EQ(body.find("secret"), std::string::npos);
  EXPECT_EQ(body.find("[DONE]"), std::string::npos);
  const std::vector<Json> events = events_of(body);
  ASSERT_EQ(events.size(), 2U);
  for (const char* key : {"message", "type", "param", "code"}) {
    EXPECT_TRUE(events[1]["error"].contains(key));
  }
  EXPECT_TRUE(streamed.closed_within(std::chrono::milliseconds(3000)));
}

TEST_F(ChatTest, TakesManyPartsAndTurns) {
  start();
  const http::RawResponse response =
      post("/v1/chat/completions",
           R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":[)"
           R"({"type":"text","text":"a"},{"type":"text","text":"b"}]},)"
           R"({"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"c1",)"
           R"("type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},)"
           R"({"role":"tool","tool_call_id":"c1","content":"42"}],)"
           R"("tools":[{"type":"function","function":{"name":"f"}}],"user":"u","metadata":{},)"
           R"("some_unknown_field":1})");
  EXPECT_EQ(response.status, 200) << response.body;
}

}  // namespace
}  // namespace beryl::api
