// Answers of POST /v1/chat/completions: as a stream of chunks, or whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/api/chat_choice.h"
#include "coordinator/api/chat_request.h"
#include "coordinator/api/generation_session.h"
#include "coordinator/api/response_parts.h"

namespace beryl::api {

// What both forms need. All must outlive the output.
struct ChatOutputContext {
  const ChatRequest& request;
  const std::vector<int32_t>& prompt_token_ids;
  size_t num_image_tokens = 0;  // of the prompt
  size_t num_video_tokens = 0;
  bool starts_in_reasoning = false;
  ResponseHeader header;
  const text::Tokenizer& tokenizer;
  const text::ControlTokens& control;
  ReasoningField reasoning_field = ReasoningField::kBoth;
  std::string call_id_prefix;  // unique; the index of choice and call is added
};

class ChatStreamOutput final : public GenerationOutput {
 public:
  // Chunks are appended to `out`, the buffer of the stream.
  ChatStreamOutput(ChatOutputContext context, std::string& out);

  // The chunks that tell the role of each choice.
  void begin();
  bool on_event(uint32_t choice_idx, const scheduler::SchedulerEvent& event) override;
  // Usage, if asked for, and [DONE].
  void end();
  uint64_t num_events() const noexcept { return num_events_; }

 private:
  struct Choice {
    ChatChoice state;
    std::string logprobs;   // entries that wait for the next chunk
    std::string token_ids;  // the same
  };

  void write_delta(uint32_t choice_idx, const text::OutputDelta& delta);
  void begin_chunk(uint32_t choice_idx);
  void end_chunk(Choice& choice, const Finish* finish);
  Usage usage() const;

  ChatOutputContext context_;
  std::string& out_;
  std::string prefix_;  // of each chunk, up to the index of the choice
  std::vector<Choice> choices_;
  std::vector<text::OutputDelta> deltas_;
  uint64_t num_events_ = 0;
};

class ChatWholeOutput final : public GenerationOutput {
 public:
  explicit ChatWholeOutput(ChatOutputContext context);

  bool on_event(uint32_t choice_idx, const scheduler::SchedulerEvent& event) override;
  std::string body() const;

 private:
  struct ToolCall {
    std::string name;
    std::string arguments;
  };
  struct Choice {
    ChatChoice state;
    std::string content;
    std::string reasoning;
    std::vector<ToolCall> tool_calls;
    std::string logprobs;
    std::string token_ids;
  };

  void collect(Choice& choice, const text::OutputDelta& delta);
  void append_choice(uint32_t choice_idx, std::string& out) const;
  void append_message(uint32_t choice_idx, std::string& out) const;
  void append_prompt_logprobs(std::string& out) const;

  ChatOutputContext context_;
  std::vector<Choice> choices_;
  std::vector<text::OutputDelta> deltas_;
  std::vector<scheduler::GeneratedToken> prompt_logprobs_;  // of prompt tokens 1, 2, …
};

}  // namespace beryl::api
