// The Gemma 4 turn format: a conversation to token ids. Control tokens are written as ids and all
// text of the caller as plain text, so no message can forge a turn. For conversations without
// control strings the ids equal those of the model's own chat template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/text/control_tokens.h"
#include "coordinator/text/template_revision.h"
#include "coordinator/text/tokenizer.h"
#include "parallel/base/expected.h"

namespace beryl::text {

enum class ChatRole { kSystem, kDeveloper, kUser, kAssistant, kTool };

enum class PartKind { kText, kImage, kAudio, kVideo };

// The soft tokens of one picture, or of one frame of a video.
struct SoftTokenRun {
  uint32_t num_soft_tokens = 0;
  std::string stamp = {};  // of a frame: "MM:SS"
};

struct ContentPart {
  PartKind kind = PartKind::kText;
  std::string text = {};                // of kText only
  std::vector<SoftTokenRun> runs = {};  // of media; empty: one bare placeholder is written
};

struct ChatToolCall {
  std::string id;  // may be empty
  std::string name;
  std::string
      arguments;  // JSON text of an object (as in the OpenAI field); "" or "null": no arguments
};

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::optional<std::string> text;  // content given as a string; nullopt: null or absent
  std::vector<ContentPart> parts;   // content given as a list; used in place of `text` if not empty
  std::string reasoning;            // assistant: `reasoning` or `reasoning_content`
  std::vector<ChatToolCall> tool_calls;  // assistant
  std::string tool_call_id;              // tool: the call that it answers
  std::string name;                      // tool: name of the function, used if no id matches
};

struct ToolDeclaration {
  std::string name;
  std::string description;
  std::string parameters;  // JSON text of the schema object, key order kept; "" or "null": none
};

struct ChatOptions {
  bool enable_thinking = false;
  bool preserve_thinking = false;
  bool add_generation_prompt = true;
  bool continue_final_message = false;  // leave the last (assistant) message open instead
};

// A run of soft tokens, or a bare placeholder.
struct MediaPlaceholder {
  PartKind kind = PartKind::kImage;
  size_t position = 0;     // index of its first soft token in `ids`
  size_t message_idx = 0;  // index in the messages given
  size_t part_idx = 0;     // index in ChatMessage::parts
  size_t run_idx = 0;      // index in ContentPart::runs
};

struct RenderedChat {
  std::vector<int32_t> ids;             // with <bos>
  std::vector<MediaPlaceholder> media;  // by position
  bool starts_in_reasoning = false;     // for OutputParser::Options
};

class ChatFormat {
 public:
  // `tokenizer` must outlive this. Fails if control tokens are missing. kUnknown and kAbsent render
  // as the newest revision known.
  static base::Expected<ChatFormat> create(const Tokenizer& tokenizer, TemplateRevision revision);

  // Errors are kInvalidArgument; `param` is a path such as "messages[2].tool_calls[0]" or
  // "tools[1]".
  base::Expected<RenderedChat> render(const std::vector<ChatMessage>& messages,
                                      const std::vector<ToolDeclaration>& tools,
                                      const ChatOptions& options) const;

  const ControlTokens& control_tokens() const noexcept { return control_; }

 private:
  ChatFormat(const Tokenizer& tokenizer, const ControlTokens& control, TemplateRevision revision)
      : tokenizer_(&tokenizer), control_(control), revision_(revision) {}

  const Tokenizer* tokenizer_;
  ControlTokens control_;
  TemplateRevision revision_;
};

}  // namespace beryl::text
