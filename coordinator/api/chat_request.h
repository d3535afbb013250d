// POST /v1/chat/completions: from JSON to a typed request.
#pragma once

#include <string>
#include <vector>

#include "coordinator/api/generation_fields.h"
#include "coordinator/api/media_parts.h"
#include "coordinator/text/chat_format.h"

namespace beryl::api {

struct ChatRequest {
  GenerationFields fields;
  std::vector<text::ChatMessage> messages;
  MediaRequest media;
  std::vector<text::ToolDeclaration> tools;  // empty also with tool_choice none
  text::ChatOptions options;
  bool logprobs = false;
  bool include_reasoning = true;
  bool parallel_tool_calls = true;
};

base::Expected<ChatRequest> parse_chat_request(const Json& body, const FieldContext& context);

// The `messages` alone, for /tokenize, and the media they show.
struct ParsedMessages {
  std::vector<text::ChatMessage> messages;
  MediaRequest media;
};
base::Expected<ParsedMessages> parse_messages(const Json& body, const media::MediaOptions& options);
base::Expected<std::vector<text::ToolDeclaration>> parse_tools(const Json& body,
                                                               const RequestLimits& limits);
base::Status parse_chat_options(const Json& body, bool enable_thinking, text::ChatOptions& options);

}  // namespace beryl::api
