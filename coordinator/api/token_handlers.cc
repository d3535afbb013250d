// POST /tokenize and /detokenize, in the form of vLLM and in that of llama-server.
#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "coordinator/api/chat_request.h"
#include "coordinator/api/completion_request.h"
#include "coordinator/api/handlers.h"
#include "coordinator/api/json_writer.h"
#include "coordinator/text/detokenizer.h"

namespace beryl::api {

using base::Status;
using Kind = Json::Kind;

namespace {

struct TokenizeFields {
  bool add_special_tokens = true;
  bool return_token_strs = false;
  bool with_pieces = false;  // llama-server: tokens as objects
};

Status parse_tokenize_fields(const Json& body, TokenizeFields& fields) {
  const bool is_content = body.find_set("content") != nullptr;
  fields.add_special_tokens = !is_content;  // the default of llama-server
  if (Status status = read_bool(body, "add_special", fields.add_special_tokens); !status) {
    return status;
  }
  if (Status status = read_bool(body, "add_special_tokens", fields.add_special_tokens); !status) {
    return status;
  }
  if (Status status = read_bool(body, "return_token_strs", fields.return_token_strs); !status) {
    return status;
  }
  return read_bool(body, "with_pieces", fields.with_pieces);
}

void append_tokens(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                   const TokenizeFields& fields, std::string& out) {
  out += "\"tokens\":[";
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    if (!fields.with_pieces) {
      append_number(ids[i], out);
      continue;
    }
    fmt::format_to(std::back_inserter(out), "{{\"id\":{},\"piece\":", ids[i]);
    append_lossy_string(token_bytes(tokenizer, ids[i]), out);
    out += '}';
  }
  out += "],\"token_strs\":";
  if (!fields.return_token_strs) {
    out += "null";
    return;
  }
  out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    append_lossy_string(tokenizer.token_text(ids[i]), out);
  }
  out += ']';
}

}  // namespace

struct Handlers::TokenizeJob {
  JsonDocument document;  // URLs of media point into it
  TokenizeFields fields;
  bool is_chat = false;
  ParsedMessages chat;
  std::vector<text::ToolDeclaration> tools;
  text::ChatOptions options;
  PreparedMedia prepared;
  std::vector<int32_t> ids;  // where it is no chat
};

Status Handlers::parse_tokenize_input(const Json& body, TokenizeJob& job) const {
  if (body.find_set("messages") != nullptr) {
    job.is_chat = true;
    auto chat = parse_messages(body, context_.options.media);
    if (!chat) return std::move(chat).error();
    job.chat = std::move(*chat);
    auto tools = parse_tools(body, context_.options.limits);
    if (!tools) return std::move(tools).error();
    job.tools = std::move(*tools);
    return parse_chat_options(body, context_.options.enable_thinking, job.options);
  }
  const char* const name = body.find_set("content") != nullptr ? "content" : "prompt";
  const Json* value = body.find_set(name);
  if (value == nullptr) {
    return base::invalid_argument("prompt", "One of prompt, messages or content is needed.");
  }
  if (!value->is(Kind::kString)) return wrong_type(name, "a string", *value);
  auto ids = context_.tokenizer.encode(value->text);
  if (!ids) return std::move(ids).error();
  job.ids = std::move(*ids);
  if (job.fields.add_special_tokens) {
    job.ids.insert(job.ids.begin(), context_.chat_format.control_tokens().bos);
  }
  return Status::ok();
}

Status Handlers::parse_tokenize(const http::Request& request, TokenizeJob& job) const {
  if (Status status = parse_body(request, job.document); !status) return status;
  const Json& body = job.document.root();
  std::string model;
  if (Status status = read_string(body, "model", model); !status) return status;
  if (Status status = check_model(model); !status) return status;
  if (Status status = parse_tokenize_fields(body, job.fields); !status) return status;
  return parse_tokenize_input(body, job);
}

Status Handlers::answer_tokenize(TokenizeJob& job, std::string& answer) const {
  if (job.is_chat) {
    auto rendered = context_.chat_format.render(job.chat.messages, job.tools, job.options);
    if (!rendered) return std::move(rendered).error();
    job.ids = std::move(rendered->ids);
  }
  const auto facts = model_facts();
  answer = fmt::format("{{\"count\":{},\"max_model_len\":{},", job.ids.size(),
                       facts ? fmt::format("{}", facts->max_model_len) : "null");
  append_tokens(context_.tokenizer, job.ids, job.fields, answer);
  answer += '}';
  return Status::ok();
}

Handlers::Result Handlers::tokenize(http::Exchange& exchange) {
  http::Response response;
  TokenizeJob job;
  Status done = co_await run_job(exchange, [this, &exchange, &job, &response] {
    Status status = parse_tokenize(exchange.request(), job);
    if (!status || !job.chat.media.parts.empty()) return status;
    return answer_tokenize(job, response.body);
  });
  if (!done) co_return fail(done.error());
  if (!job.chat.media.parts.empty()) {
    done = co_await prepare_media(exchange, job.chat.media, job.chat.messages, job.prepared);
    if (!done) co_return fail(done.error());
    done = co_await run_job(
        exchange, [this, &job, &response] { return answer_tokenize(job, response.body); });
    if (!done) co_return fail(done.error());
  }
  co_return response;
}

Status Handlers::prepare_detokenize(const http::Request& request, std::string& answer) const {
  JsonDocument document;
  if (Status status = parse_body(request, document); !status) return status;
  const Json& body = document.root();
  std::string model;
  if (Status status = read_string(body, "model", model); !status) return status;
  if (Status status = check_model(model); !status) return status;
  const Json* tokens = body.find("tokens");
  if (tokens == nullptr) return base::invalid_argument("tokens", "tokens is missing.");
  std::vector<int32_t> ids;
  if (!tokens->is(Kind::kArray) || !tokens->children.empty()) {
    auto parsed =
        parse_token_list(*tokens, "tokens", static_cast<uint32_t>(context_.tokenizer.vocab_size()));
    if (!parsed) return parsed.error();
    ids = std::move(*parsed);
  }
  const std::string text = text::decode(context_.tokenizer, ids, false);
  answer = "{\"prompt\":";
  append_string(text, answer);
  answer += ",\"content\":";
  append_string(text, answer);
  answer += '}';
  return Status::ok();
}

Handlers::Result Handlers::detokenize(http::Exchange& exchange) {
  http::Response response;
  const Status done = co_await run_job(exchange, [this, &exchange, &response] {
    return prepare_detokenize(exchange.request(), response.body);
  });
  if (!done) co_return fail(done.error());
  co_return response;
}

}  // namespace beryl::api
