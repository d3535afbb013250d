// The handlers behind the routes and what they share.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/api/api_keys.h"
#include "coordinator/api/chat_output.h"
#include "coordinator/api/completion_request.h"
#include "coordinator/api/generation_fields.h"
#include "coordinator/api/json.h"
#include "coordinator/api/media_preparation.h"
#include "coordinator/api/response_parts.h"
#include "coordinator/api/server_context.h"
#include "coordinator/http/exchange.h"
#include "coordinator/http/response.h"

namespace beryl::api {

class Handlers : public std::enable_shared_from_this<Handlers> {
 public:
  explicit Handlers(ServerContext& context);

  using Result = boost::asio::awaitable<http::Response>;
  Result chat_completions(http::Exchange& exchange);
  Result completions(http::Exchange& exchange);
  Result tokenize(http::Exchange& exchange);
  Result detokenize(http::Exchange& exchange);

  http::Response list_models() const;
  http::Response one_model(std::string_view name) const;
  http::Response live() const;
  http::Response ready(bool draining) const;
  http::Response startup() const;
  http::Response version() const;
  http::Response metrics() const;
  http::Response cluster_status() const;

  base::Status authenticate(const http::Request& request) const { return keys_.check(request); }
  http::Response fail(const base::Error& error) const;

 private:
  struct ChatJob;
  struct CompletionJob;
  struct TokenizeJob;

  // Runs `job` at once where the body is small, else on the worker pool.
  boost::asio::awaitable<base::Status> run_job(http::Exchange& exchange,
                                               const std::function<base::Status()>& job);
  // From the body to a typed request; renders it where it has no media.
  base::Status parse_chat(const http::Request& request, ChatJob& job);
  base::Status render_chat(ChatJob& job) const;
  // Fetches and decodes on the pool for slow jobs. kCancelled where the client has gone meanwhile.
  boost::asio::awaitable<base::Status> prepare_media(http::Exchange& exchange,
                                                     const MediaRequest& request,
                                                     std::vector<text::ChatMessage>& messages,
                                                     PreparedMedia& prepared);
  base::Status prepare_completion(const http::Request& request, CompletionJob& job);
  Result stream_chat(http::Exchange& exchange, ChatJob& job);
  Result answer_chat(http::Exchange& exchange, ChatJob& job);
  Result stream_completion(http::Exchange& exchange, CompletionJob& job);
  Result answer_completion(http::Exchange& exchange, CompletionJob& job);

  base::Status parse_body(const http::Request& request, JsonDocument& document) const;
  base::Expected<cluster::ModelFacts> model_facts() const { return context_.engine.model(); }
  base::Status check_model(std::string_view name) const;
  // Limits max_tokens to the context, checks that the prompt fits.
  base::Status fit_to_context(GenerationFields& fields, size_t num_prompt_tokens,
                              const cluster::ModelFacts& model, const char* param) const;
  // One request per choice.
  std::vector<cluster::GenerationRequest> make_requests(
      const GenerationFields& fields, const std::vector<int32_t>& prompt,
      const std::vector<media::PlacedImage>& media = {}) const;
  void log_unknown_fields(const Json& body);
  // The `request_id` of the body, only ever echoed.
  base::Status read_request_id(const Json& body, std::string& request_id) const;
  ChatOutputContext chat_output_context(const ChatJob& job, std::string_view object);
  base::Expected<std::vector<int32_t>> encode_prompt(Prompt& prompt, bool add_special_tokens) const;
  http::Response end_stream(http::SseStream& stream, const base::Status& status,
                            uint64_t num_events) const;
  base::Status parse_tokenize(const http::Request& request, TokenizeJob& job) const;
  base::Status parse_tokenize_input(const Json& body, TokenizeJob& job) const;
  base::Status answer_tokenize(TokenizeJob& job, std::string& answer) const;
  base::Status prepare_detokenize(const http::Request& request, std::string& answer) const;
  void count_request(const GenerationFields& fields) const;
  uint64_t next_random();
  ResponseHeader make_header(std::string_view id_prefix, std::string_view object);

  ServerContext& context_;
  ApiKeys keys_;
  metrics::MediaMetrics media_metrics_;  // before the loader, which counts in it
  media::MediaLoader media_loader_;
  std::vector<int32_t> eos_token_ids_;
  std::string system_fingerprint_;
  int64_t started_;  // Unix seconds
  std::atomic<uint64_t> random_state_;
  std::mutex unknown_mutex_;
  std::set<std::string, std::less<>> unknown_logged_;
};

}  // namespace beryl::api
