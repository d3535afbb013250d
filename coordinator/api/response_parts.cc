#include "coordinator/api/response_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "coordinator/api/json_writer.h"

namespace beryl::api {
namespace {

void append_bytes(std::string_view bytes, std::string& out) {
  out += '[';
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i > 0) out += ',';
    append_number(static_cast<unsigned char>(bytes[i]), out);
  }
  out += ']';
}

void append_token(const text::Tokenizer& tokenizer, int32_t token_id, float logprob,
                  std::string& out) {
  const std::string_view bytes = token_bytes(tokenizer, token_id);
  out += "{\"token\":";
  append_lossy_string(bytes, out);
  out += ",\"logprob\":";
  append_logprob(logprob, out);
  out += ",\"bytes\":";
  append_bytes(bytes, out);
}

}  // namespace

void append_header(const ResponseHeader& header, std::string& out) {
  out += "{\"id\":";
  append_string(header.id, out);
  out += ",\"object\":";
  append_string(header.object, out);
  out += ",\"created\":";
  append_number(header.created, out);
  out += ",\"model\":";
  append_string(header.model, out);
  out += ",\"system_fingerprint\":";
  append_string(header.system_fingerprint, out);
}

void append_usage(const Usage& usage, std::string& out) {
  fmt::format_to(std::back_inserter(out),
                 "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":0",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens);
  const auto append_detail = [&out](const char* name, size_t num_tokens) {
    if (num_tokens > 0) fmt::format_to(std::back_inserter(out), ",\"{}\":{}", name, num_tokens);
  };
  append_detail("image_tokens", usage.image_tokens);
  append_detail("video_tokens", usage.video_tokens);
  fmt::format_to(std::back_inserter(out),
                 "}},\"completion_tokens_details\":{{\"reasoning_tokens\":{}}}}}",
                 usage.reasoning_tokens);
}

void append_usage_event(const ResponseHeader& header, const Usage& usage, std::string& out) {
  out += "data: ";
  append_header(header, out);
  out += ",\"choices\":[],\"usage\":";
  append_usage(usage, out);
  out += "}\n\n";
}

void append_finish(const Finish& finish, std::string& out) {
  out += "\"finish_reason\":";
  append_string(finish.reason, out);
  out += ",\"stop_reason\":";
  out += finish.stop_reason.empty() ? "null" : finish.stop_reason;
}

std::string_view token_bytes(const text::Tokenizer& tokenizer, int32_t token_id) {
  return tokenizer.is_special(token_id) ? tokenizer.token_text(token_id)
                                        : tokenizer.token_bytes(token_id);
}

void append_chat_logprob(const text::Tokenizer& tokenizer, const scheduler::GeneratedToken& token,
                         std::string& out) {
  append_token(tokenizer, token.token_id, token.logprob, out);
  out += ",\"top_logprobs\":[";
  for (size_t i = 0; i < token.top.size(); ++i) {
    if (i > 0) out += ',';
    append_token(tokenizer, token.top[i].token_id, token.top[i].logprob, out);
    out += '}';
  }
  out += "]}";
}

void append_prompt_logprob(const text::Tokenizer& tokenizer, const scheduler::GeneratedToken& token,
                           size_t num_top, std::string& out) {
  const auto append_one = [&](int32_t token_id, float logprob) {
    fmt::format_to(std::back_inserter(out), "\"{}\":{{\"logprob\":", token_id);
    append_logprob(logprob, out);
    out += ",\"decoded_token\":";
    append_lossy_string(token_bytes(tokenizer, token_id), out);
    out += '}';
  };
  out += '{';
  append_one(token.token_id, token.logprob);
  for (size_t i = 0; i < std::min(num_top, token.top.size()); ++i) {
    if (token.top[i].token_id == token.token_id) continue;
    out += ',';
    append_one(token.top[i].token_id, token.top[i].logprob);
  }
  out += '}';
}

void append_token_id(int32_t token_id, std::string& list) {
  if (!list.empty()) list += ',';
  append_number(token_id, list);
}

}  // namespace beryl::api
