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

base::Expected<std::vector<int32_t>> Handlers::encode_tokenize_input(
    const Json& body, bool add_special_tokens) const {
  if (body.find_set("messages") != nullptr) {
    auto messages = parse_messages(body);
    if (!messages) return messages.error();
    auto tools = parse_tools(body, context_.options.limits);
    if (!tools) return tools.error();
    text::ChatOptions options;
    if (Status status = parse_chat_options(body, context_.options.enable_thinking, options);
        !status) {
      return status.error();
    }
    auto rendered = context_.chat_format.render(*messages, *tools, options);
    if (!rendered) return rendered.error();
    return std::move(rendered->ids);
  }
  const char* const name = body.find_set("content") != nullptr ? "content" : "prompt";
  const Json* value = body.find_set(name);
  if (value == nullptr) {
    return base::invalid_argument("prompt", "One of prompt, messages or content is needed.");
  }
  if (!value->is(Kind::kString)) return wrong_type(name, "a string", *value);
  auto ids = context_.tokenizer.encode(value->text);
  if (ids && add_special_tokens) {
    ids->insert(ids->begin(), context_.chat_format.control_tokens().bos);
  }
  return ids;
}

Status Handlers::prepare_tokenize(const http::Request& request, std::string& answer) const {
  JsonDocument document;
  if (Status status = parse_body(request, document); !status) return status;
  const Json& body = document.root();
  std::string model;
  if (Status status = read_string(body, "model", model); !status) return status;
  if (Status status = check_model(model); !status) return status;
  TokenizeFields fields;
  if (Status status = parse_tokenize_fields(body, fields); !status) return status;
  const auto ids = encode_tokenize_input(body, fields.add_special_tokens);
  if (!ids) return ids.error();
  const auto facts = model_facts();
  answer = fmt::format("{{\"count\":{},\"max_model_len\":{},", ids->size(),
                       facts ? fmt::format("{}", facts->max_model_len) : "null");
  append_tokens(context_.tokenizer, *ids, fields, answer);
  answer += '}';
  return Status::ok();
}

Handlers::Result Handlers::tokenize(http::Exchange& exchange) {
  http::Response response;
  const Status done = co_await run_job(exchange, [this, &exchange, &response] {
    return prepare_tokenize(exchange.request(), response.body);
  });
  if (!done) co_return fail(done.error());
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
