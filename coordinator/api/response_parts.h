// The parts that chat and text completions share when they are written as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "coordinator/scheduler/request.h"
#include "coordinator/text/tokenizer.h"

namespace beryl::api {

// What every answer and every chunk of one request begins with.
struct ResponseHeader {
  std::string id;
  std::string_view object;
  int64_t created = 0;  // Unix seconds
  std::string model;
  std::string system_fingerprint;
};

// {"id":…,"system_fingerprint":… without a closing brace.
void append_header(const ResponseHeader& header, std::string& out);

struct Usage {
  size_t prompt_tokens = 0;
  size_t completion_tokens = 0;
  size_t reasoning_tokens = 0;
  size_t image_tokens = 0;  // among the prompt tokens
  size_t video_tokens = 0;
};
void append_usage(const Usage& usage, std::string& out);
// The last event of a stream with include_usage: no choices, the usage.
void append_usage_event(const ResponseHeader& header, const Usage& usage, std::string& out);

// Why a choice ended.
struct Finish {
  std::string_view reason;  // "stop", "length", "tool_calls"
  std::string stop_reason;  // JSON: null, a stop string, or an id of stop_token_ids
};
// "finish_reason":…,"stop_reason":…
void append_finish(const Finish& finish, std::string& out);
// The same of a choice that goes on.
constexpr std::string_view kNotFinished = "\"finish_reason\":null";

// The bytes that a token stands for in log-probabilities; of control tokens their name.
std::string_view token_bytes(const text::Tokenizer& tokenizer, int32_t token_id);

// One entry of the chat form: token, logprob, bytes, top_logprobs.
void append_chat_logprob(const text::Tokenizer& tokenizer, const scheduler::GeneratedToken& token,
                         std::string& out);

// prompt_logprobs as vLLM gives them: a map from id to logprob and text, for one token.
void append_prompt_logprob(const text::Tokenizer& tokenizer, const scheduler::GeneratedToken& token,
                           size_t num_top, std::string& out);

// With a comma in front unless `list` is empty.
void append_token_id(int32_t token_id, std::string& list);

}  // namespace beryl::api
