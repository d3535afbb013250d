// Follows the control flow of the chat template step by step; the order of writes is the format.
// The earlier revision differs in which reasoning stays, in closing turns and after tool results.
#include "coordinator/text/chat_renderer.h"

#include <utility>

#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

constexpr std::string_view kChannelOpen = "<|channel>";
constexpr std::string_view kChannelClose = "<channel|>";

bool is_system(const ChatMessage& message) {
  return message.role == ChatRole::kSystem || message.role == ChatRole::kDeveloper;
}

std::string_view turn_name(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem:
      return "system";
    case ChatRole::kDeveloper:
      return "developer";
    case ChatRole::kUser:
      return "user";
    case ChatRole::kAssistant:
      return "model";
    case ChatRole::kTool:
      break;
  }
  return "tool";
}

// Old answers may still carry reasoning as text between channel markers: it is taken out.
std::string without_thinking(std::string_view text) {
  std::string kept;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t close = std::min(text.find(kChannelClose, begin), text.size());
    const std::string_view span = text.substr(begin, close - begin);
    kept += span.substr(0, span.find(kChannelOpen));
    begin = close + kChannelClose.size();
  }
  return std::string(trim(kept));
}

// Text of a message or part as it is shown.
std::string shown_text(ChatRole role, std::string_view text) {
  return role == ChatRole::kAssistant ? without_thinking(text) : std::string(trim(text));
}

std::string shown_content(const ChatMessage& message) {
  if (message.parts.empty()) return shown_text(message.role, message.text ? *message.text : "");
  std::string shown;
  for (const ContentPart& part : message.parts) shown += shown_text(message.role, part.text);
  return shown;
}

}  // namespace

ChatRenderer::ChatRenderer(const Tokenizer& tokenizer, const ControlTokens& control,
                           const PreparedChat& chat)
    : control_(control),
      chat_(chat),
      messages_(chat.messages),
      writer_(tokenizer),
      tool_format_(writer_, control_, chat.is_earlier_revision ? "None" : "null") {
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (messages_[i].role == ChatRole::kUser) num_before_replies_ = i + 1;
  }
}

// Tool messages are written by the assistant message that they answer.
base::Expected<RenderedChat> ChatRenderer::render() {
  writer_.control(control_.bos);
  write_system_block();
  for (size_t i = first_message_idx_; i < messages_.size(); ++i) {
    if (messages_[i].role != ChatRole::kTool) write_message(i);
  }
  write_generation_prompt();
  auto ids = writer_.take_ids();
  if (!ids) return std::move(ids).error();
  rendered_.ids = std::move(*ids);
  return std::move(rendered_);
}

void ChatRenderer::open_turn(std::string_view role) {
  writer_.control(control_.turn_open);
  writer_.text(role);
  writer_.text("\n");
}

void ChatRenderer::close_turn() {
  writer_.control(control_.turn_close);
  writer_.text("\n");
}

// The first system message, the declarations of tools and the switch for thinking share one turn.
void ChatRenderer::write_system_block() {
  const bool has_system_message = !messages_.empty() && is_system(messages_[0]);
  if (!chat_.options.enable_thinking && chat_.tools.empty() && !has_system_message) return;
  open_turn("system");
  if (chat_.options.enable_thinking) {
    writer_.control(control_.think);
    writer_.text("\n");
  }
  if (has_system_message) {
    first_message_idx_ = 1;
    for (const ContentPart& part : messages_[0].parts) {
      writer_.text(trim(part.text));
      writer_.text(" ");
    }
    if (messages_[0].parts.empty()) writer_.text(shown_content(messages_[0]));
  }
  for (const PreparedTool& tool : chat_.tools) {
    tool_format_.write_declaration(tool.declaration->name, tool.declaration->description,
                                   tool.parameters);
  }
  close_turn();
}

// Index of the next message that is not a tool result, or the number of messages.
size_t ChatRenderer::next_speaker(size_t message_idx) const {
  size_t next = message_idx + 1;
  while (next < messages_.size() && messages_[next].role == ChatRole::kTool) ++next;
  return next;
}

// NOTE: content beside tool calls whose results end the conversation. The template would write it
// after the results, close the turn and open none, so the model would have nowhere to answer.
bool ChatRenderer::is_stranded(size_t message_idx) const {
  const ChatMessage& message = messages_[message_idx];
  const bool has_results =
      message_idx + 1 < messages_.size() && messages_[message_idx + 1].role == ChatRole::kTool;
  return !message.tool_calls.empty() && has_results &&
         next_speaker(message_idx) == messages_.size();
}

void ChatRenderer::write_message(size_t message_idx) {
  const ChatMessage& message = messages_[message_idx];
  const bool is_model = message.role == ChatRole::kAssistant;
  ending_ = Ending::kText;
  if (!is_model || !previous_is_model_) open_turn(turn_name(message.role));
  bool has_responses = false;
  bool has_content = false;
  const bool stranded = is_model && is_stranded(message_idx);
  if (is_model) {
    write_reasoning(message_idx, stranded ? shown_content(message) : std::string());
    write_tool_calls(message_idx);
    has_responses = write_tool_responses(message_idx);
  }
  if (!stranded) has_content = write_content(message_idx);
  end_turn(message_idx, has_responses, has_content);
  previous_is_model_ = is_model;
}

// The reasoning of finished turns is dropped; that of the running tool loop stays.
// `misplaced_content` of a stranded message goes behind it.
void ChatRenderer::write_reasoning(size_t message_idx, std::string_view misplaced_content) {
  const ChatMessage& message = messages_[message_idx];
  const bool has_calls = !message.tool_calls.empty();
  const bool is_current = message_idx >= num_before_replies_;
  const bool is_shown = chat_.is_earlier_revision
                            ? is_current && has_calls
                            : is_current || (chat_.options.preserve_thinking && has_calls);
  std::string reasoning = message.reasoning;
  if (!misplaced_content.empty()) {
    if (!reasoning.empty()) reasoning += '\n';
    reasoning += misplaced_content;
  }
  if (!is_shown || reasoning.empty()) return;
  writer_.control(control_.channel_open);
  writer_.text("thought\n");
  writer_.text(reasoning);
  writer_.text("\n");
  writer_.control(control_.channel_close);
}

void ChatRenderer::write_tool_calls(size_t message_idx) {
  const ChatMessage& message = messages_[message_idx];
  for (size_t i = 0; i < message.tool_calls.size(); ++i) {
    tool_format_.write_call(message.tool_calls[i].name, chat_.arguments[message_idx][i]);
    ending_ = Ending::kPendingCall;
  }
}

// True if there were any. They follow their call at once, inside the turn of the model.
bool ChatRenderer::write_tool_responses(size_t message_idx) {
  const ChatMessage& message = messages_[message_idx];
  if (message.tool_calls.empty()) return false;
  const size_t end = next_speaker(message_idx);
  for (size_t i = message_idx + 1; i < end; ++i) {
    write_tool_response(message, i);
    ending_ = Ending::kToolResponse;
  }
  return end > message_idx + 1;
}

void ChatRenderer::write_tool_response(const ChatMessage& caller, size_t message_idx) {
  const ChatMessage& result = messages_[message_idx];
  std::string name = result.name.empty() ? "unknown" : result.name;
  for (const ChatToolCall& call : caller.tool_calls) {
    if (call.id == result.tool_call_id) name = call.name;
  }
  JsonValue value;
  if (result.text) value = JsonValue::string(*result.text);
  if (!result.parts.empty()) {
    value = JsonValue::string("");
    for (const ContentPart& part : result.parts) value.text += part.text;
  }
  tool_format_.write_response(name, value);
  for (size_t i = 0; i < result.parts.size(); ++i) {
    if (result.parts[i].kind != PartKind::kText) write_media(message_idx, i);
  }
}

// True if anything was written. Parts are trimmed one by one and stand without separator.
bool ChatRenderer::write_content(size_t message_idx) {
  const ChatMessage& message = messages_[message_idx];
  if (message.parts.empty()) {
    const std::string text = shown_content(message);
    writer_.text(text);
    return !text.empty();
  }
  bool has_content = false;
  for (size_t i = 0; i < message.parts.size(); ++i) {
    const ContentPart& part = message.parts[i];
    if (part.kind != PartKind::kText) {
      write_media(message_idx, i);
      has_content = true;
      continue;
    }
    const std::string text = shown_text(message.role, part.text);
    writer_.text(text);
    has_content = has_content || !text.empty();
  }
  return has_content;
}

// A picture becomes its soft tokens between brackets; of a video each frame does, with its time in
// front and a space between two frames.
void ChatRenderer::write_media(size_t message_idx, size_t part_idx) {
  const ContentPart& part = messages_[message_idx].parts[part_idx];
  const int32_t soft_token = part.kind == PartKind::kImage   ? control_.image
                             : part.kind == PartKind::kAudio ? control_.audio
                                                             : control_.video;
  if (part.runs.empty()) {
    rendered_.media.push_back({part.kind, writer_.next_position(), message_idx, part_idx, 0});
    writer_.control(soft_token);
  }
  for (size_t i = 0; i < part.runs.size(); ++i) {
    const SoftTokenRun& run = part.runs[i];
    if (i > 0) writer_.text(" ");
    if (!run.stamp.empty()) writer_.text(run.stamp + " ");
    writer_.control(control_.image_open);
    rendered_.media.push_back({part.kind, writer_.next_position(), message_idx, part_idx, i});
    for (uint32_t j = 0; j < run.num_soft_tokens; ++j) writer_.control(soft_token);
    writer_.control(control_.image_close);
  }
}

// The turn stays open where the model is to go on in it: before the result of a call, before
// another assistant message, after results at the end of the conversation.
void ChatRenderer::end_turn(size_t message_idx, bool has_responses, bool has_content) {
  const ChatMessage& message = messages_[message_idx];
  const size_t next = next_speaker(message_idx);
  if (ending_ == Ending::kPendingCall) {
    writer_.control(control_.tool_response_open);
    return;
  }
  const bool is_unfinished =
      chat_.options.continue_final_message && message_idx + 1 == messages_.size();
  if (is_unfinished) return;
  if (chat_.is_earlier_revision) {
    if (!has_responses || has_content) close_turn();
    return;
  }
  const bool is_continued = message.role == ChatRole::kAssistant && next < messages_.size() &&
                            messages_[next].role == ChatRole::kAssistant;
  const bool stays_open = has_responses && !has_content && next == messages_.size();
  if (!is_continued && !stays_open) close_turn();
}

// Without thinking the model is given an empty thought. After tool results with thinking the
// channel is opened for it, so the answer begins inside the reasoning.
void ChatRenderer::write_generation_prompt() {
  const ChatOptions& options = chat_.options;
  if (!options.add_generation_prompt || options.continue_final_message) return;
  if (ending_ == Ending::kPendingCall) return;
  if (ending_ == Ending::kText) {
    open_turn(turn_name(ChatRole::kAssistant));
    if (options.enable_thinking) return;
    writer_.control(control_.channel_open);
    writer_.text("thought\n");
    writer_.control(control_.channel_close);
  } else if (options.enable_thinking && !chat_.is_earlier_revision) {
    writer_.control(control_.channel_open);
    writer_.text("thought\n");
    rendered_.starts_in_reasoning = true;
  }
}

}  // namespace beryl::text
