// The turn format itself, over input that has been checked: see chat_format.h.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/text/chat_format.h"
#include "coordinator/text/json_value.h"
#include "coordinator/text/prompt_writer.h"
#include "coordinator/text/tool_format.h"

namespace beryl::text {

struct PreparedTool {
  const ToolDeclaration* declaration = nullptr;
  JsonValue parameters;  // normalised, or kNull
};

struct PreparedChat {
  const std::vector<ChatMessage>& messages;
  std::vector<std::vector<JsonValue>> arguments;  // [messages, tool_calls]
  std::vector<PreparedTool> tools;
  const ChatOptions& options;
  bool is_earlier_revision = false;
};

class ChatRenderer {
 public:
  ChatRenderer(const Tokenizer& tokenizer, const ControlTokens& control, const PreparedChat& chat);

  base::Expected<RenderedChat> render();

 private:
  // What the last message ended with decides about the generation prompt.
  enum class Ending { kText, kPendingCall, kToolResponse };

  void write_system_block();
  void write_message(size_t message_idx);
  void write_reasoning(size_t message_idx, std::string_view misplaced_content);
  void write_tool_calls(size_t message_idx);
  bool write_tool_responses(size_t message_idx);
  void write_tool_response(const ChatMessage& caller, size_t message_idx);
  bool write_content(size_t message_idx);
  void write_media(size_t message_idx, size_t part_idx);
  void end_turn(size_t message_idx, bool has_responses, bool has_content);
  void open_turn(std::string_view role);
  void close_turn();
  void write_generation_prompt();
  bool is_stranded(size_t message_idx) const;
  size_t next_speaker(size_t message_idx) const;

  const ControlTokens& control_;
  const PreparedChat& chat_;
  const std::vector<ChatMessage>& messages_;
  PromptWriter writer_;
  ToolFormat tool_format_;
  RenderedChat rendered_;
  size_t first_message_idx_ = 0;   // 1 if the first message is in the system block
  size_t num_before_replies_ = 0;  // messages up to and including the last one of the user
  bool previous_is_model_ = false;
  Ending ending_ = Ending::kText;
};

}  // namespace beryl::text
