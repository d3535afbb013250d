#include "tests/coordinator/api/api_fixture.h"

#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "coordinator/api/routes.h"

namespace beryl::api {

ApiFixture::ApiFixture() {
  const std::string path = std::string(BERYL_SOURCE_DIR) + "/tests/data/tiny/tokenizer.json";
  tokenizer_ = std::move(text::Tokenizer::load(path)).value();
  chat_format_ = std::make_unique<text::ChatFormat>(
      text::ChatFormat::create(*tokenizer_, text::TemplateRevision::kJuly2026).value());
  options_.served_model_names = {"tiny", "alias/with-slash"};
  config_.port = 0;
  config_.num_pool_threads = 1;
  engine_options_.model.vocab_size = static_cast<uint32_t>(tokenizer_->vocab_size());
  set_output("Hello there");
}

ApiFixture::~ApiFixture() {
  if (server_) server_->stop();
}

void ApiFixture::start() {
  engine_options_.script = [this](const cluster::GenerationRequest&) { return script_; };
  engine_ = std::make_unique<cluster::MockEngine>(engine_options_);
  context_.reset(
      new ServerContext{*engine_, *tokenizer_, *chat_format_, metrics_, options_, logger_});
  http::Router router;
  http::ServerHooks hooks = register_routes(router, *context_);
  routes_ = router.routes();
  server_ = std::make_unique<http::Server>(
      http::Server::Parts{config_, std::move(hooks), std::move(router)}, metrics_.http(), logger_);
  ASSERT_TRUE(server_->start().is_ok());
}

std::vector<int32_t> ApiFixture::ids_of(std::string_view text) const {
  return tokenizer_->encode_with_special(text).value();
}

void ApiFixture::set_output(std::string_view text) {
  script_ = ids_of(text);
}

http::RawResponse ApiFixture::post(std::string_view path, std::string_view body,
                                   std::string_view headers) const {
  return http::fetch(port(), http::post_request(path, body, headers));
}

http::RawResponse ApiFixture::get(std::string_view path, std::string_view headers) const {
  return http::fetch(port(), http::get_request(path, headers));
}

std::vector<nlohmann::json> ApiFixture::events_of(const std::string& body) {
  std::vector<Json> events;
  size_t begin = 0;
  while (begin < body.size()) {
    const size_t end = body.find("\n\n", begin);
    const std::string line = body.substr(begin, end - begin);
    begin = end + 2;
    if (line.starts_with(':')) continue;
    if (!line.starts_with("data: ")) {
      ADD_FAILURE() << "not an event: " << line;
      return events;
    }
    const std::string data = line.substr(6);
    events.push_back(data == "[DONE]" ? Json(data) : Json::parse(data));
  }
  return events;
}

std::string ApiFixture::chat_body(std::string_view members, std::string_view user) {
  return fmt::format(R"({{"model":"tiny","messages":[{{"role":"user","content":{}}}]{}{}}})",
                     Json(std::string(user)).dump(), members.empty() ? "" : ",", members);
}

std::string ApiFixture::completion_body(std::string_view members) {
  return fmt::format(R"({{"model":"tiny","prompt":"Hello"{}{}}})", members.empty() ? "" : ",",
                     members);
}

std::string ApiFixture::golden_answer() const {
  const http::RawResponse response =
      post("/v1/chat/completions", chat_body(R"("temperature":0,"seed":1)"));
  if (response.status != 200) return fmt::format("status {}", response.status);
  Json body = Json::parse(response.body);
  body.erase("id");
  body.erase("created");
  return body.dump();
}

bool ApiFixture::eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace beryl::api
