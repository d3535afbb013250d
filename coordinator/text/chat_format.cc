// Checks all input and names the field at fault, so that the renderer cannot fail on it.
#include "coordinator/text/chat_format.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "coordinator/text/chat_renderer.h"
#include "coordinator/text/schema_normalizer.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

base::Error problem(const std::string& place, std::string_view what) {
  return base::invalid_argument(place, fmt::format("{}: {}", place, what));
}

base::Status check_text(std::string_view text, const std::string& place) {
  if (is_valid_utf8(text)) return base::Status::ok();
  return problem(place, "not valid UTF-8");
}

base::Status check_strings(const ChatMessage& message, const std::string& place) {
  for (size_t i = 0; i < message.parts.size(); ++i) {
    const std::string part_place = fmt::format("{}.content[{}]", place, i);
    if (auto status = check_text(message.parts[i].text, part_place); !status) return status;
  }
  const std::pair<std::string_view, const char*> fields[] = {
      {message.text ? std::string_view(*message.text) : std::string_view(), "content"},
      {message.reasoning, "reasoning"},
      {message.tool_call_id, "tool_call_id"},
      {message.name, "name"}};
  for (const auto& [text, field] : fields) {
    if (auto status = check_text(text, fmt::format("{}.{}", place, field)); !status) return status;
  }
  return base::Status::ok();
}

bool has_media(const ChatMessage& message) {
  for (const ContentPart& part : message.parts) {
    if (part.kind != PartKind::kText) return true;
  }
  return false;
}

// What the template would drop without a word, or what it cannot print.
base::Status check_place(const std::vector<ChatMessage>& messages, size_t message_idx,
                         const std::string& place) {
  const ChatMessage& message = messages[message_idx];
  const bool is_system = message.role == ChatRole::kSystem || message.role == ChatRole::kDeveloper;
  if (message_idx == 0 && is_system && has_media(message)) {
    return problem(place, "the system message may hold text only");
  }
  if (message.role != ChatRole::kTool) return base::Status::ok();
  size_t caller = message_idx;
  while (caller > 0 && messages[caller].role == ChatRole::kTool) --caller;
  if (messages[caller].role != ChatRole::kAssistant || messages[caller].tool_calls.empty()) {
    return problem(place,
                   "a tool message must follow the assistant message whose tool_calls it answers");
  }
  return base::Status::ok();
}

base::Expected<std::vector<JsonValue>> parse_arguments(const ChatMessage& message,
                                                       const std::string& place) {
  std::vector<JsonValue> arguments;
  for (size_t i = 0; i < message.tool_calls.size(); ++i) {
    const ChatToolCall& call = message.tool_calls[i];
    const std::string call_place = fmt::format("{}.tool_calls[{}]", place, i);
    if (auto status = check_text(call.name, call_place + ".function.name"); !status) {
      return status.error();
    }
    auto parsed = parse_json_object(call.arguments);
    if (!parsed) return problem(call_place + ".function.arguments", parsed.error().message);
    arguments.push_back(std::move(*parsed));
  }
  return arguments;
}

base::Expected<PreparedTool> prepare_tool(const ToolDeclaration& tool, const std::string& place) {
  if (auto status = check_text(tool.name, place + ".function.name"); !status) {
    return status.error();
  }
  if (auto status = check_text(tool.description, place + ".function.description"); !status) {
    return status.error();
  }
  auto parameters = parse_json_object(tool.parameters);
  if (!parameters) return problem(place + ".function.parameters", parameters.error().message);
  normalize_parameters(*parameters);
  return PreparedTool{&tool, std::move(*parameters)};
}

base::Status check_last(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  if (!options.continue_final_message) return base::Status::ok();
  if (!messages.empty() && messages.back().role == ChatRole::kAssistant &&
      messages.back().tool_calls.empty()) {
    return base::Status::ok();
  }
  return base::invalid_argument(
      "continue_final_message",
      "continue_final_message needs an assistant message without tool_calls at the end");
}

}  // namespace

base::Expected<ChatFormat> ChatFormat::create(const Tokenizer& tokenizer,
                                              TemplateRevision revision) {
  auto control = ControlTokens::find(tokenizer);
  if (!control) return std::move(control).error();
  return ChatFormat(tokenizer, *control, revision);
}

base::Expected<RenderedChat> ChatFormat::render(const std::vector<ChatMessage>& messages,
                                                const std::vector<ToolDeclaration>& tools,
                                                const ChatOptions& options) const {
  if (auto status = check_last(messages, options); !status) return status.error();
  PreparedChat chat{messages, {}, {}, options, revision_ == TemplateRevision::kEarlier};
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string place = fmt::format("messages[{}]", i);
    if (auto status = check_strings(messages[i], place); !status) return status.error();
    if (auto status = check_place(messages, i, place); !status) return status.error();
    auto arguments = parse_arguments(messages[i], place);
    if (!arguments) return std::move(arguments).error();
    chat.arguments.push_back(std::move(*arguments));
  }
  for (size_t i = 0; i < tools.size(); ++i) {
    auto prepared = prepare_tool(tools[i], fmt::format("tools[{}]", i));
    if (!prepared) return std::move(prepared).error();
    chat.tools.push_back(std::move(*prepared));
  }
  return ChatRenderer(*tokenizer_, control_, chat).render();
}

}  // namespace beryl::text
