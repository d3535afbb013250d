// A whole front end over a MockEngine and the small test tokenizer, with a real socket.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/api/server_context.h"
#include "coordinator/cluster/mock_engine.h"
#include "coordinator/http/server.h"
#include "tests/coordinator/http/raw_client.h"

namespace beryl::api {

class ApiFixture : public ::testing::Test {
 protected:
  using Json = nlohmann::json;

  ApiFixture();
  ~ApiFixture() override;

  // Change these before start().
  ServerOptions options_;
  http::ServerConfig config_;
  cluster::MockEngineOptions engine_options_;

  void start();
  uint16_t port() const { return server_->port(); }

  // What the engine "generates": text, with names of control tokens in it, e.g.
  // "Hi<|channel>thought\n". The first stop token follows unless the request has max_tokens.
  void set_output(std::string_view text);
  std::vector<int32_t> ids_of(std::string_view text) const;

  http::RawResponse post(std::string_view path, std::string_view body,
                         std::string_view headers = "") const;
  http::RawResponse get(std::string_view path, std::string_view headers = "") const;
  // The data lines of a stream, parsed; [DONE] as a string.
  static std::vector<Json> events_of(const std::string& body);
  // A chat request with these further members, e.g. R"("n":2)".
  static std::string chat_body(std::string_view members = "", std::string_view user = "Hello");
  static std::string completion_body(std::string_view members = "");
  // The fixed request that must be answered the same at any time.
  std::string golden_answer() const;

  static bool eventually(const std::function<bool()>& condition);

  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<text::ChatFormat> chat_format_;
  metrics::Registry registry_;
  metrics::ServerMetrics metrics_{registry_, "tiny"};
  base::Logger logger_{"test", base::LogLevel::kError};
  std::vector<int32_t> script_;
  std::unique_ptr<cluster::MockEngine> engine_;
  std::unique_ptr<ServerContext> context_;
  std::vector<http::Route> routes_;  // as registered
  std::unique_ptr<http::Server> server_;
};

}  // namespace beryl::api
