// The front end as a whole: keys, health, limits, disconnects, slow clients, drain.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/api/api_keys.h"
#include "coordinator/api/generation_config.h"
#include "tests/coordinator/api/api_fixture.h"

namespace beryl::api {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

class ServerBehaviourTest : public ApiFixture {
 protected:
  std::vector<http::RawClient> open_chats(int count, std::string_view members) {
    std::vector<http::RawClient> clients;
    for (int i = 0; i < count; ++i) {
      clients.emplace_back(port());
      clients.back().send(http::post_request("/v1/chat/completions", chat_body(members)));
    }
    return clients;
  }
};

TEST_F(ServerBehaviourTest, EveryRouteButProbesNeedsAKey) {
  options_.api_keys = {"first-key", "second-key"};
  start();
  const std::vector<std::string> open = {"/health",         "/health/ready", "/health/live",
                                         "/health/startup", "/ping",         "/version",
                                         "/metrics"};
  ASSERT_EQ(routes_.size(), 14U);
  for (const http::Route& route : routes_) {
    const std::string path =
        route.path.ends_with('*') ? route.path.substr(0, route.path.size() - 1) + "x" : route.path;
    const bool is_open = std::find(open.begin(), open.end(), path) != open.end();
    const auto status_with = [&](const std::string& header) {
      return route.method == "GET" ? get(path, header).status : post(path, "{}", header).status;
    };
    EXPECT_EQ(status_with("") == 401, !is_open) << path;
    EXPECT_EQ(status_with("Authorization: Bearer wrong\r\n") == 401, !is_open) << path;
    EXPECT_EQ(status_with("Authorization: Basic first-key\r\n") == 401, !is_open) << path;
    for (const char* key : {"first-key", "second-key"}) {
      EXPECT_NE(status_with(fmt::format("Authorization: Bearer {}\r\n", key)), 401) << path;
      EXPECT_NE(status_with(fmt::format("X-Api-Key: {}\r\n", key)), 401) << path;
    }
  }
  EXPECT_EQ(get("/no/such/path").status, 401);
  const http::RawResponse response = get("/v1/models");
  EXPECT_EQ(response.headers.at("www-authenticate"), "Bearer");
  EXPECT_EQ(Json::parse(response.body)["error"]["code"], "invalid_api_key");
  EXPECT_EQ(get("/metrics").body.find("first-key"), std::string::npos);
}

TEST_F(ServerBehaviourTest, ProtectsMetricsWhereAsked) {
  options_.api_keys = {"k"};
  options_.metrics_need_key = true;
  start();
  EXPECT_EQ(get("/metrics").status, 401);
  EXPECT_EQ(get("/metrics", "Authorization: Bearer k\r\n").status, 200);
}

TEST_F(ServerBehaviourTest, ListsModels) {
  start();
  const Json list = Json::parse(get("/v1/models").body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2U);
  EXPECT_EQ(list["data"][0]["id"], "tiny");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(Json::parse(get("/v1/models/alias/with-slash").body)["id"], "alias/with-slash");
  EXPECT_EQ(Json::parse(get("/v1/models/alias%2Fwith-slash").body)["id"], "alias/with-slash");
  const http::RawResponse missing = get("/v1/models/other");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(Json::parse(missing.body)["error"]["code"], "model_not_found");
  engine_->set_state(cluster::EngineState::kStarting);
  EXPECT_EQ(get("/v1/models").status, 503);
}

TEST_F(ServerBehaviourTest, HealthFollowsTheEngine) {
  start();
  const auto statuses = [this] {
    std::string text;
    for (const char* path :
         {"/health", "/health/ready", "/health/live", "/health/startup", "/ping", "/version"}) {
      text += std::to_string(get(path).status) + " ";
    }
    return text;
  };
  EXPECT_EQ(statuses(), "200 200 200 200 200 200 ");
  engine_->set_state(cluster::EngineState::kStarting);
  EXPECT_EQ(statuses(), "503 503 200 503 200 200 ");
  const http::RawResponse refused = post("/v1/chat/completions", chat_body());
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "2");
  engine_->set_state(cluster::EngineState::kDegraded);
  EXPECT_EQ(statuses(), "503 503 200 200 200 200 ");
  engine_->set_state(cluster::EngineState::kDraining);
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(post("/v1/chat/completions", chat_body()).status, 503);
}

TEST_F(ServerBehaviourTest, TellsAboutTheCluster) {
  start();
  const Json status = Json::parse(get("/v1/cluster/status").body);
  EXPECT_EQ(status["state"], "ready");
  EXPECT_EQ(status["groups"][0]["ranks"][0]["rank"], 0);
  EXPECT_EQ(Json::parse(get("/version").body)["version"], options_.version);
  EXPECT_EQ(post("/v1/chat/completions", chat_body()).status, 200);
  const http::RawResponse metrics = get("/metrics");
  EXPECT_THAT(metrics.headers.at("content-type"), HasSubstr("text/plain"));
  EXPECT_THAT(metrics.body, HasSubstr("http_requests_total{handler=\"/v1/chat/completions\","
                                      "method=\"POST\",status=\"200\"} 1"));
}

TEST_F(ServerBehaviourTest, TokenizesInBothForms) {
  start();
  const std::vector<int32_t> ids = ids_of("Hello there");
  const Json vllm =
      Json::parse(post("/tokenize", R"({"prompt":"Hello there","return_token_strs":true})").body);
  EXPECT_EQ(vllm["count"], ids.size() + 1);
  EXPECT_EQ(vllm["max_model_len"], 4096);
  EXPECT_EQ(vllm["tokens"][0], chat_format_->control_tokens().bos);
  EXPECT_EQ(vllm["token_strs"].size(), ids.size() + 1);
  const Json llama =
      Json::parse(post("/tokenize", R"({"content":"Hello there","with_pieces":true})").body);
  ASSERT_EQ(llama["tokens"].size(), ids.size());
  EXPECT_EQ(llama["tokens"][0]["id"], ids[0]);
  const Json chat = Json::parse(
      post("/tokenize", R"({"messages":[{"role":"user","content":"Hello there"}]})").body);
  EXPECT_GT(chat["count"], ids.size() + 4);
  const Json text = Json::parse(post("/detokenize", Json{{"tokens", ids}}.dump()).body);
  EXPECT_EQ(text["prompt"], "Hello there");
  EXPECT_EQ(text["content"], "Hello there");
  // A body above the size that is handled on the I/O thread.
  const std::string long_text(100'000, 'a');
  EXPECT_EQ(post("/tokenize", Json{{"prompt", long_text}}.dump()).status, 200);
}

TEST_F(ServerBehaviourTest, EchoesRequestIds) {
  start();
  EXPECT_EQ(post("/v1/chat/completions", chat_body(), "X-Request-Id: from-header\r\n")
                .headers.at("x-request-id"),
            "from-header");
  EXPECT_EQ(post("/v1/chat/completions", chat_body(R"("request_id":"from-body")"))
                .headers.at("x-request-id"),
            "from-body");
  EXPECT_FALSE(get("/ping", "X-Request-Id: " + std::string(500, 'x') + "\r\n")
                   .headers.at("x-request-id")
                   .starts_with("xxx"));
}

TEST_F(ServerBehaviourTest, RefusesWhenTheQueueIsFull) {
  engine_options_.max_running = 2;
  engine_options_.max_queued = 2;
  start();
  engine_->set_paused(true);
  std::vector<http::RawClient> clients = open_chats(4, "");
  ASSERT_TRUE(eventually([this] { return engine_->num_open() == 4; }));
  for (const char* members : {"", R"("stream":true)"}) {
    const http::RawResponse refused = post("/v1/chat/completions", chat_body(members));
    EXPECT_EQ(refused.status, 429);
    EXPECT_EQ(refused.headers.at("retry-after"), "2");
    EXPECT_EQ(Json::parse(refused.body)["error"]["code"], "server_overloaded");
  }
  // All choices or none.
  clients.pop_back();
  ASSERT_TRUE(eventually([this] { return engine_->num_open() == 3; }));
  EXPECT_EQ(post("/v1/chat/completions", chat_body(R"("n":2)")).status, 429);
  EXPECT_TRUE(eventually([this] { return engine_->num_open() == 3; }));
  engine_->set_paused(false);
  for (http::RawClient& client : clients) EXPECT_EQ(client.read_response().status, 200);
}

TEST_F(ServerBehaviourTest, ClientsThatGoAreCancelled) {
  start();
  for (const char* members : {R"("max_tokens":2000,"ignore_eos":true)",
                              R"("max_tokens":2000,"ignore_eos":true,"stream":true)",
                              R"("max_tokens":2000,"ignore_eos":true,"n":3)"}) {
    for (const bool by_reset : {false, true}) {
      engine_->allow_tokens(50);
      std::vector<http::RawClient> clients = open_chats(10, members);
      ASSERT_TRUE(eventually([this] { return engine_->num_open() >= 10; }));
      for (http::RawClient& client : clients) by_reset ? client.reset() : client.close();
      // No further token is allowed: only cancelling can end them.
      engine_->allow_tokens(0);
      EXPECT_TRUE(eventually([this] { return engine_->num_open() == 0; })) << members << by_reset;
    }
  }
  engine_->allow_tokens(-1);
  EXPECT_EQ(post("/v1/chat/completions", chat_body()).status, 200);
  EXPECT_TRUE(eventually([this] { return metrics_.http().connections.value() == 0; }));
}

TEST_F(ServerBehaviourTest, SlowReadersAreCutAndOthersAreNot) {
  config_.limits.send_buffer_bytes = 4096;
  config_.limits.write_stall = milliseconds(400);
  engine_options_.model.max_model_len = 1'000'000;
  start();
  http::RawClient slow(port(), 2048);
  slow.send(http::post_request(
      "/v1/chat/completions",
      chat_body(R"("stream":true,"ignore_eos":true,"max_tokens":900000,"logprobs":true)")));
  EXPECT_TRUE(eventually([this] { return engine_->num_submitted() == 1; }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(post("/v1/chat/completions", chat_body()).status, 200);
  EXPECT_TRUE(eventually([this] { return engine_->num_open() == 0; }));
  EXPECT_TRUE(eventually([this] { return metrics_.http().sse_slow_client_closes.value() == 1; }));
}

TEST_F(ServerBehaviourTest, SlowReadersGetEverythingInFewerEvents) {
  config_.limits.send_buffer_bytes = 4096;
  config_.limits.stream_soft_bytes = 2048;
  engine_options_.model.max_model_len = 100'000;
  start();
  http::RawClient client(port(), 2048);
  constexpr size_t kTokens = 6000;
  client.send(http::post_request(
      "/v1/chat/completions",
      chat_body(fmt::format(R"("stream":true,"ignore_eos":true,"max_tokens":{})", kTokens))));
  ASSERT_TRUE(eventually([this] { return engine_->num_tokens() == kTokens; }));
  const std::vector<Json> events = events_of(client.read_response().body);
  EXPECT_LT(events.size(), kTokens / 2);
  std::string text;
  for (const Json& event : events) {
    if (!event.is_object()) continue;
    ASSERT_TRUE(event.contains("choices")) << event.dump();
    text += event["choices"][0]["delta"].value("content", "");
  }
  const size_t num_repeats = kTokens / script_.size();
  ASSERT_GE(text.size(), num_repeats * std::string("Hello there").size());
  EXPECT_TRUE(text.starts_with("Hello thereHello thereHello there"));
}

TEST_F(ServerBehaviourTest, ClientsThatHoldTooMuchGetAnErrorEvent) {
  config_.limits.send_buffer_bytes = 4096;
  config_.limits.stream_soft_bytes = 2048;
  options_.limits.max_held_events = 500;
  engine_options_.model.max_model_len = 1'000'000;
  start();
  http::RawClient client(port(), 2048);
  client.send(http::post_request(
      "/v1/chat/completions", chat_body(R"("stream":true,"ignore_eos":true,"max_tokens":900000)")));
  ASSERT_TRUE(eventually([this] { return engine_->num_submitted() == 1; }));
  EXPECT_TRUE(eventually([this] { return engine_->num_open() == 0; }));
  const std::string body = client.read_response().body;
  EXPECT_THAT(body, HasSubstr("\"code\":\"slow_client\""));
  EXPECT_EQ(body.find("[DONE]"), std::string::npos);
  EXPECT_TRUE(client.closed_within(milliseconds(3000)));
}

TEST_F(ServerBehaviourTest, SilentStreamsArePinged) {
  config_.limits.stream_ping_interval = milliseconds(100);
  start();
  engine_->set_paused(true);
  http::RawClient client(port());
  client.send(http::post_request("/v1/chat/completions", chat_body(R"("stream":true)")));
  std::string seen;
  while (seen.find(": ping\n\n") == std::string::npos) ASSERT_TRUE(client.read_some(seen));
  engine_->set_paused(false);
  while (seen.find("[DONE]") == std::string::npos) ASSERT_TRUE(client.read_some(seen));
}

TEST_F(ServerBehaviourTest, DrainFinishesStreamsAndRefusesNewWork) {
  start();
  engine_->set_paused(true);
  std::vector<http::RawClient> clients = open_chats(3, R"("stream":true)");
  ASSERT_TRUE(eventually([this] { return engine_->num_open() == 3; }));
  server_->begin_drain();
  const http::RawResponse refused = post("/v1/chat/completions", chat_body());
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.at("connection"), "close");
  EXPECT_TRUE(refused.headers.contains("retry-after"));
  EXPECT_EQ(get("/health").status, 503);
  EXPECT_EQ(get("/health/live").status, 200);
  engine_->set_paused(false);
  EXPECT_TRUE(server_->drain(milliseconds(5000)));
  for (http::RawClient& client : clients) {
    EXPECT_THAT(client.read_response().body, HasSubstr("[DONE]"));
  }
}

TEST_F(ServerBehaviourTest, StopEndsStreamsThatDoNotEnd) {
  start();
  engine_->set_paused(true);
  std::vector<http::RawClient> clients = open_chats(5, R"("stream":true)");
  ASSERT_TRUE(eventually([this] { return engine_->num_open() == 5; }));
  EXPECT_FALSE(server_->drain(milliseconds(50)));
  server_->stop();
  EXPECT_TRUE(eventually([this] { return engine_->num_open() == 0; }));
}

TEST_F(ServerBehaviourTest, PipelinedWorkIsAnsweredInOrder) {
  start();
  http::RawClient client(port());
  std::string requests;
  for (int i = 0; i < 20; ++i) {
    requests += http::post_request(
        "/v1/chat/completions", chat_body(i % 2 == 0 ? R"("stream":true)" : R"("max_tokens":3)"));
  }
  client.send(requests);
  for (int i = 0; i < 20; ++i) {
    const http::RawResponse response = client.read_response();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body.starts_with("data: "), i % 2 == 0);
  }
}

TEST(ApiKeysTest, ReadsKeyFiles) {
  const std::string path = ::testing::TempDir() + "/keys.txt";
  {
    std::FILE* file = std::fopen(path.c_str(), "w");
    std::fputs("# comment\n\n  key-one  \nkey-two\r\n", file);
    std::fclose(file);
  }
  const auto keys = read_key_file(path);
  ASSERT_TRUE(keys.has_value());
  EXPECT_EQ(*keys, (std::vector<std::string>{"key-one", "key-two"}));
  EXPECT_FALSE(read_key_file(path + ".missing").has_value());
  const ApiKeys known(*keys);
  EXPECT_TRUE(known.contains("key-two"));
  EXPECT_FALSE(known.contains("key-tw"));
  EXPECT_FALSE(known.contains(""));
}

TEST(GenerationConfigTest, ReadsTheModelsDefaults) {
  const auto config = load_generation_config(std::string(BERYL_SOURCE_DIR) + "/tests/data/tiny");
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->sampling.top_k, 64U);
  EXPECT_EQ(config->sampling.top_p, 0.95F);
  EXPECT_EQ(config->eos_token_ids, (std::vector<int32_t>{1, 16, 9}));
  EXPECT_TRUE(load_generation_config("/nowhere").has_value());
  const SamplingDefaults merged = merge({.temperature = 0.5F}, config->sampling);
  EXPECT_EQ(merged.temperature, 0.5F);
  EXPECT_EQ(merged.top_k, 64U);
}

}  // namespace
}  // namespace beryl::api
