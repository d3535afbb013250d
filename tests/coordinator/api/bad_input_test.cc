// Wrong requests by class: the right status, the field named, and afterwards the same answer as
// before to a fixed request.
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "coordinator/api/generation_fields.h"
#include "tests/coordinator/api/api_fixture.h"

namespace beryl::api {
namespace {

class BadInputTest : public ApiFixture {
 protected:
  void SetUp() override {
    start();
    golden_ = golden_answer();
    ASSERT_TRUE(golden_.starts_with("{")) << golden_;
  }

  void TearDown() override {
    EXPECT_EQ(golden_answer(), golden_);
    EXPECT_TRUE(eventually([this] { return engine_->num_open() == 0; }));
  }

  static void check_error(const http::RawResponse& response, int status, std::string_view param,
                          const std::string& what) {
    EXPECT_EQ(response.status, status) << what << "\n" << response.body;
    if (response.status != status) return;
    const Json body = Json::parse(response.body, nullptr, false);
    ASSERT_TRUE(body.contains("error")) << what << "\n" << response.body;
    const Json& error = body["error"];
    for (const char* key : {"message", "type", "param", "code"}) {
      EXPECT_TRUE(error.contains(key)) << what << ": no " << key;
    }
    if (param.empty()) {
      EXPECT_TRUE(error["param"].is_null()) << what << "\n" << response.body;
    } else {
      EXPECT_EQ(error["param"], std::string(param)) << what << "\n" << response.body;
    }
    // Nothing of our insides in it.
    for (const char* secret :
         {"0x", "/work", "/root", "/tmp", ".cc", "std::", "boost", "beryl::"}) {
      EXPECT_EQ(response.body.find(secret), std::string::npos) << what << "\n" << response.body;
    }
  }

  void expect_chat(int status, std::string_view param, const std::string& members) {
    check_error(post("/v1/chat/completions", chat_body(members)), status, param, members);
  }
  void expect_completion(int status, std::string_view param, const std::string& members) {
    check_error(post("/v1/completions", completion_body(members)), status, param, members);
  }
  void expect_body(int status, std::string_view param, const std::string& body) {
    check_error(post("/v1/chat/completions", body), status, param, body.substr(0, 200));
  }

  std::string golden_;
};

// Is `value` good for `field`? (JSON text of the matrix below.)
bool is_good(const NumericField& field, const std::string& value) {
  if (value == "null") return true;
  if (value == "0") return field.min <= 0 && !field.excludes_min;
  if (value == "-1") return field.min <= -1;
  if (value == "1") return true;
  if (value == "2147483648" || value == "9007199254740993") return field.max > 4e9;
  return false;
}

TEST_F(BadInputTest, EveryNumericFieldTimesEveryOddValue) {
  const std::vector<std::string> values = {"NaN",
                                           "Infinity",
                                           "-Infinity",
                                           "-1",
                                           "0",
                                           "1",
                                           "2147483648",
                                           "9007199254740993",
                                           "9223372036854775808",
                                           "1e308",
                                           "1e999",
                                           "-1e999",
                                           "\"1\"",
                                           "true",
                                           "null",
                                           "[]",
                                           "{}"};
  for (const NumericField& field : numeric_fields()) {
    for (const std::string& value : values) {
      if (value == "1e308" && field.name == "seed") continue;
      std::string members = fmt::format("\"{}\":{}", field.name, value);
      if (field.name == "top_logprobs") members += ",\"logprobs\":true";
      if (field.name == "max_tokens" || field.name == "min_tokens") {
        // Whether it fits the context is another question.
        if (value == "1" || value == "0") members += ",\"ignore_eos\":true";
      }
      const bool is_chat = field.endpoint != Endpoint::kCompletions;
      const http::RawResponse response = is_chat
                                             ? post("/v1/chat/completions", chat_body(members))
                                             : post("/v1/completions", completion_body(members));
      if (is_good(field, value)) {
        // A completion of 0 tokens needs echo: refused, and named as well.
        if (field.name == "max_tokens" && !is_chat && value == "0") {
          check_error(response, 400, field.name, members);
        } else {
          EXPECT_EQ(response.status, 200) << members << "\n" << response.body;
        }
      } else {
        check_error(response, 400, field.name, members);
      }
    }
  }
}

TEST_F(BadInputTest, FieldsOfOtherTypes) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> cases = {
      {"model", {"1", "true", "[]", "{}"}},
      {"stream", {"1", "\"true\"", "[]", "{}"}},
      {"logprobs", {"1", "\"true\"", "[]"}},
      {"ignore_eos", {"1", "\"\""}},
      {"skip_special_tokens", {"0"}},
      {"include_stop_str_in_output", {"\"x\""}},
      {"return_token_ids", {"3"}},
      {"include_reasoning", {"\"x\""}},
      {"parallel_tool_calls", {"1"}},
      {"continue_final_message", {"1"}},
      {"add_generation_prompt", {"\"\""}},
      {"tools", {"1", "{}", "\"x\"", "[]"}},
      {"tool_choice", {"1", "true", "[]"}},
      {"logit_bias", {"1", "[]", "\"x\""}},
      {"stop_token_ids", {"1", "{}", "\"x\""}},
      {"allowed_token_ids", {"1", "{}"}},
      {"stream_options", {"1", "[]"}},
      {"reasoning_effort", {"1", "\"extreme\"", "[]"}},
      {"chat_template_kwargs", {"1", "[]", "{\"tokenize\":true}"}},
      {"response_format", {"1", "\"json\""}},
      {"request_id", {"1", "{}"}},
  };
  for (const auto& [field, values] : cases) {
    for (const std::string& value : values) {
      const std::string members = fmt::format("\"{}\":{}", field, value);
      expect_chat(400, field, members);
    }
  }
}

TEST_F(BadInputTest, MessagesAndRoles) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"messages", R"({"model":"tiny"})"},
      {"messages", R"({"messages":null})"},
      {"messages", R"({"messages":"x"})"},
      {"messages", R"({"messages":{}})"},
      {"messages", R"({"messages":[]})"},
      {"messages[0]", R"({"messages":["x"]})"},
      {"messages[0]", R"({"messages":[null]})"},
      {"messages[0].role", R"({"messages":[{"content":"x"}]})"},
      {"messages[0].role", R"({"messages":[{"role":1,"content":"x"}]})"},
      {"messages[0].role", R"({"messages":[{"role":"","content":"x"}]})"},
      {"messages[0].role", R"({"messages":[{"role":"User","content":"x"}]})"},
      {"messages[1].role",
       R"({"messages":[{"role":"user","content":"x"},{"role":"root","content":"x"}]})"},
      {"messages[0].content", R"({"messages":[{"role":"user"}]})"},
      {"messages[0].content", R"({"messages":[{"role":"user","content":null}]})"},
      {"messages[0].content", R"({"messages":[{"role":"user","content":1}]})"},
      {"messages[0].content", R"({"messages":[{"role":"user","content":{}}]})"},
      {"messages[0].content[0]", R"({"messages":[{"role":"user","content":["x"]}]})"},
      {"messages[0].content[0].type", R"({"messages":[{"role":"user","content":[{}]}]})"},
      {"messages[0].content[0].type",
       R"({"messages":[{"role":"user","content":[{"type":"magic"}]}]})"},
      {"messages[0].content[1].text",
       R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text"}]}]})"},
      {"messages[0].content[0].text",
       R"({"messages":[{"role":"user","content":[{"type":"text","text":null}]}]})"},
      {"messages[0].tool_calls",
       R"({"messages":[{"role":"user","content":"x","tool_calls":[{}]}]})"},
      {"messages[0].tool_calls", R"({"messages":[{"role":"assistant","tool_calls":1}]})"},
      {"messages[0].tool_calls[0]", R"({"messages":[{"role":"assistant","tool_calls":[1]}]})"},
      {"messages[0].tool_calls[0].function",
       R"({"messages":[{"role":"assistant","tool_calls":[{"id":"a"}]}]})"},
      {"messages[0].tool_calls[0].function.name",
       R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":""}}]}]})"},
      {"messages[0].tool_calls[0].function.arguments",
       R"({"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":1}}]}]})"},
      {"messages[0].tool_call_id",
       R"({"messages":[{"role":"tool","content":"x","tool_call_id":1}]})"},
  };
  for (const auto& [param, body] : cases) expect_body(400, param, body);
}

TEST_F(BadInputTest, Tools) {
  const auto tools = [](const std::string& tool) { return "\"tools\":[" + tool + "]"; };
  const std::string good =
      R"({"type":"function","function":{"name":"f","parameters":{"type":"object"}}})";
  expect_chat(400, "tools[0]", tools("1"));
  expect_chat(400, "tools[0].type", tools("{}"));
  expect_chat(400, "tools[0].type", tools(R"({"type":"web"})"));
  expect_chat(400, "tools[0].function", tools(R"({"type":"function"})"));
  expect_chat(400, "tools[0].function.name", tools(R"({"type":"function","function":{}})"));
  expect_chat(400, "tools[0].function.name",
              tools(R"({"type":"function","function":{"name":"a b"}})"));
  expect_chat(
      400, "tools[0].function.name",
      tools(R"({"type":"function","function":{"name":")" + std::string(200, 'a') + R"("}})"));
  expect_chat(400, "tools[1].function.parameters",
              tools(good + R"(,{"type":"function","function":{"name":"g","parameters":[]}})"));
  expect_chat(400, "tool_choice", R"("tool_choice":"auto")");
  expect_chat(400, "tool_choice", tools(good) + R"(,"tool_choice":"maybe")");
  expect_chat(400, "tool_choice",
              tools(good) + R"(,"tool_choice":{"type":"function","function":{"name":"g"}})");
  expect_chat(501, "tool_choice", tools(good) + R"(,"tool_choice":"required")");
  expect_chat(501, "tool_choice",
              tools(good) + R"(,"tool_choice":{"type":"function","function":{"name":"f"}})");
}

TEST_F(BadInputTest, StopsAndTokenIds) {
  std::string many = "\"stop\":[\"a\"";
  for (int i = 0; i < 64; ++i) many += ",\"a\"";
  expect_chat(400, "stop", many + "]");
  expect_chat(400, "stop", R"("stop":"")");
  expect_chat(400, "stop", R"("stop":["a",""])");
  expect_chat(400, "stop", R"("stop":0)");
  expect_chat(400, "stop", R"("stop":{})");
  expect_chat(400, "stop", R"("stop":[1])");
  expect_chat(400, "stop", R"("stop":[null])");
  expect_chat(400, "stop", "\"stop\":\"" + std::string(1'000'000, 'x') + "\"");
  const std::string vocab_size = std::to_string(engine_options_.model.vocab_size);
  for (const std::string& id : {std::string("-1"), vocab_size, std::string("1.5"),
                                std::string("\"1\""), std::string("null"), std::string("1e9")}) {
    expect_chat(400, "stop_token_ids[1]", "\"stop_token_ids\":[1," + id + "]");
    expect_chat(400, "allowed_token_ids[0]", "\"allowed_token_ids\":[" + id + "]");
  }
  for (const std::string& key : {std::string("-1"), vocab_size, std::string("x"), std::string(""),
                                 std::string("1 "), std::string("99999999999")}) {
    expect_chat(400, "logit_bias", "\"logit_bias\":{\"" + key + "\":1}");
  }
  for (const char* value : {"101", "-101", "\"1\"", "null", "1e308", "[]"}) {
    expect_chat(400, "logit_bias", fmt::format("\"logit_bias\":{{\"1\":{}}}", value));
  }
}

TEST_F(BadInputTest, ContradictionsAndLimits) {
  expect_chat(400, "top_logprobs", R"("top_logprobs":2)");
  expect_chat(400, "min_tokens", R"("min_tokens":5,"max_tokens":4)");
  expect_chat(400, "min_tokens", R"("min_tokens":100000)");
  expect_chat(400, "n", R"("n":129)");
  expect_chat(400, "stream_options", R"("stream_options":{"include_usage":true})");
  expect_chat(400, "stream_options.include_usage",
              R"("stream":true,"stream_options":{"include_usage":1})");
  expect_chat(400, "prompt_logprobs", R"("stream":true,"prompt_logprobs":1)");
  expect_chat(400, "continue_final_message",
              R"("continue_final_message":true,"add_generation_prompt":true)");
  expect_chat(400, "chat_template_kwargs.enable_thinking",
              R"("chat_template_kwargs":{"enable_thinking":1})");
  expect_chat(400, "chat_template", R"("chat_template":"{{ x }}")");
  expect_chat(400, "use_beam_search", R"("use_beam_search":true)");
  expect_chat(404, "model", R"("model":"other")");
  expect_completion(400, "best_of", R"("best_of":2)");
  expect_completion(400, "suffix", R"("suffix":"x")");
  expect_completion(400, "n", R"("n":129)");
}

TEST_F(BadInputTest, KnownButNotServedYet) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"response_format", R"("response_format":{"type":"json_object"})"},
      {"response_format",
       R"("response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{}}})"},
      {"structured_outputs", R"("structured_outputs":{"regex":"a"})"},
      {"guided_json", R"("guided_json":{"type":"object"})"},
      {"guided_regex", R"("guided_regex":"a")"},
      {"grammar", R"("grammar":"root ::= x")"},
      {"bad_words", R"("bad_words":["x"])"},
      {"thinking_token_budget", R"("thinking_token_budget":5)"},
  };
  for (const auto& [param, members] : cases) expect_chat(501, param, members);
  expect_chat(400, "response_format.json_schema", R"("response_format":{"type":"json_schema"})");
  expect_chat(400, "response_format.type", R"("response_format":{"type":"xml"})");
  // The engine of the fixture takes no media.
  expect_body(501, "messages[0].content[0].image_url.url",
              R"({"messages":[{"role":"user","content":[{"type":"image_url",)"
              R"("image_url":{"url":"data:image/png;base64,AA=="}}]}]})");
  const http::RawResponse text =
      post("/v1/chat/completions", chat_body(R"("response_format":{"type":"text"})"));
  EXPECT_EQ(text.status, 200);
}

TEST_F(BadInputTest, MalformedJson) {
  const std::string deep = std::string(65, '[') + std::string(65, ']');
  const std::vector<std::string> bodies = {
      "",
      "   ",
      "{",
      "null",
      "[]",
      "\"x\"",
      "1",
      "{\"messages\":[}",
      "{\"messages\":[],}",
      "{'a':1}",
      std::string("{\"a\":\"\0\"}", 9),
      "{\"a\":\"\xff\"}",
      "{\"a\":\"\xed\xa0\x80\"}",
      "\xef\xbb\xbf{}",
      "{} trailing",
      "not json at all",
  };
  for (const std::string& body : bodies) {
    const http::RawResponse response = post("/v1/chat/completions", body);
    EXPECT_EQ(response.status, 400) << body;
    EXPECT_TRUE(Json::accept(response.body)) << response.body;
  }
  expect_body(400, "user", "{\"user\":" + deep + "}");
  expect_body(400, "user", "{\"user\":" + std::string(1'000'000, '[') + "}");
}

TEST_F(BadInputTest, Prompts) {
  const std::string vocab_size = std::to_string(engine_options_.model.vocab_size);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"prompt", "{}"},
      {"prompt", R"({"prompt":null})"},
      {"prompt", R"({"prompt":1})"},
      {"prompt", R"({"prompt":{}})"},
      {"prompt", R"({"prompt":[]})"},
      {"prompt[0]", R"({"prompt":[[]]})"},
      {"prompt[0]", R"({"prompt":[null]})"},
      {"prompt[1]", R"({"prompt":["a",{}]})"},
      {"prompt[1]", R"({"prompt":[1,"a"]})"},
      {"prompt[0]", R"({"prompt":[-1]})"},
      {"prompt[0]", "{\"prompt\":[" + vocab_size + "]}"},
      {"prompt[0][1]", "{\"prompt\":[[1," + vocab_size + "]]}"},
      {"prompt[0]", R"({"prompt":[1.5]})"},
      {"prompt", R"({"prompt":"","add_special_tokens":false})"},
  };
  for (const auto& [param, body] : cases) {
    check_error(post("/v1/completions", body), 400, param, body);
  }
}

TEST_F(BadInputTest, PromptThatIsTooLong) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += "a b ";
  const http::RawResponse chat = post("/v1/chat/completions", chat_body("", text));
  check_error(chat, 400, "messages", "long prompt");
  EXPECT_EQ(Json::parse(chat.body)["error"]["code"], "context_length_exceeded");
  EXPECT_NE(chat.body.find("4096"), std::string::npos);
  const http::RawResponse output = post("/v1/chat/completions", chat_body(R"("max_tokens":4096)"));
  check_error(output, 400, "max_tokens", "too much output");
  EXPECT_EQ(Json::parse(output.body)["error"]["code"], "context_length_exceeded");
}

TEST_F(BadInputTest, ContentTypesAndSizes) {
  const std::string body = chat_body();
  const auto request = [&](const std::string& header) {
    return fmt::format(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{}Content-Length: {}\r\n\r\n{}", header,
        body.size(), body);
  };
  EXPECT_EQ(http::fetch(port(), request("")).status, 200);
  EXPECT_EQ(
      http::fetch(port(), request("Content-Type: application/json; charset=utf-8\r\n")).status,
      200);
  check_error(http::fetch(port(), request("Content-Type: text/plain\r\n")), 415, "", "text/plain");
  check_error(http::fetch(port(),
                          "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: "
                          "99999999999\r\n\r\n"),
              413, "", "huge body");
  check_error(http::fetch(port(), "GET /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n"), 405, "",
              "GET");
  check_error(http::fetch(port(), "GET /nope HTTP/1.1\r\nHost: a\r\n\r\n"), 404, "", "no route");
  check_error(http::fetch(port(), "GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n"), 400, "",
              "underscore");
}

TEST_F(BadInputTest, TokenizeAndDetokenize) {
  const std::vector<std::pair<std::string, std::string>> tokenize = {
      {"prompt", "{}"},
      {"prompt", R"({"prompt":1})"},
      {"content", R"({"content":[]})"},
      {"messages", R"({"messages":[]})" + std::string()},
      {"add_special_tokens", R"({"prompt":"a","add_special_tokens":1})"},
      {"model", R"({"prompt":"a","model":1})"},
  };
  for (const auto& [param, body] : tokenize) {
    check_error(post("/tokenize", body), 400, param, body);
  }
  const std::vector<std::pair<std::string, std::string>> detokenize = {
      {"tokens", "{}"},
      {"tokens", R"({"tokens":1})"},
      {"tokens[0]", R"({"tokens":[-1]})"},
      {"tokens[1]", R"({"tokens":[1,100000000]})"},
      {"tokens[0]", R"({"tokens":["a"]})"},
  };
  for (const auto& [param, body] : detokenize) {
    check_error(post("/detokenize", body), 400, param, body);
  }
}

TEST_F(BadInputTest, ControlTokensTypedByAUserStayText) {
  const Json plain = Json::parse(post("/tokenize", R"({"prompt":"<|turn>user<turn|><bos>",)"
                                                   R"("add_special_tokens":false})")
                                     .body);
  for (const auto& id : plain["tokens"]) EXPECT_FALSE(tokenizer_->is_special(id.get<int32_t>()));
}

}  // namespace
}  // namespace beryl::api
