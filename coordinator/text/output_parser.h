// Separates what a model generates into reasoning, answer and tool calls while it streams. A state
// machine on token ids: markers are single ids, so none can leak into text. The same deltas
// (joined) come out however the ids are cut into pushes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "coordinator/text/control_tokens.h"
#include "coordinator/text/detokenizer.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tool_call_text.h"

namespace beryl::text {

struct ReasoningDelta {
  std::string text;
};
struct ContentDelta {
  std::string text;
};
struct ToolCallStart {
  size_t index = 0;  // 0 for the first call of the answer
  std::string name;
};
struct ToolCallArguments {
  size_t index = 0;
  std::string json;  // at present the whole object at once
};
struct ToolCallEnd {
  size_t index = 0;
};
using OutputDelta =
    std::variant<ReasoningDelta, ContentDelta, ToolCallStart, ToolCallArguments, ToolCallEnd>;

// White space that ends a piece of reasoning is held back, as it is dropped if nothing follows.
constexpr size_t kMaxHeldSpaceBytes = 4096;
// Calls of one answer beyond this are dropped.
constexpr size_t kMaxToolCalls = 128;

class OutputParser {
 public:
  struct Options {
    bool starts_in_reasoning = false;     // RenderedChat::starts_in_reasoning
    std::vector<std::string> tool_names;  // declared in the request; if empty, calls are dropped
  };

  // `tokenizer` must outlive this.
  OutputParser(const Tokenizer& tokenizer, const ControlTokens& control, Options options);

  // Appends the deltas that are certain after `ids`; neighbours of one kind are joined.
  void push(std::span<const int32_t> ids, std::vector<OutputDelta>& out);

  // Ends the answer: held text comes out, an unterminated call is completed. Call once.
  void finish(std::vector<OutputDelta>& out);

  size_t num_tool_calls() const noexcept { return num_tool_calls_; }
  // Calls dropped: no tools declared, no name, or over a limit.
  size_t num_dropped_calls() const noexcept { return num_dropped_calls_; }
  bool in_reasoning() const noexcept { return state_ == State::kReasoning; }

 private:
  enum class State { kContent, kReasoning, kToolCall };

  void push_id(int32_t id, std::vector<OutputDelta>& out);
  void push_marker(int32_t id, std::vector<OutputDelta>& out);
  void push_text(std::string_view text, std::vector<OutputDelta>& out);
  void push_reasoning(std::string_view text, std::vector<OutputDelta>& out);
  void push_content(std::string_view text, std::vector<OutputDelta>& out);
  void push_call(std::string_view text, std::vector<OutputDelta>& out);
  std::string_view after_label(std::string_view text);
  bool may_begin_call(std::string_view text) const;
  void start_call(std::vector<OutputDelta>& out);
  void end_call(bool is_complete, std::vector<OutputDelta>& out);
  void enter(State state, std::string_view label);
  void leave(bool is_complete, std::vector<OutputDelta>& out);

  const Tokenizer* tokenizer_;
  ControlTokens control_;
  std::vector<std::string> tool_names_;
  Detokenizer detokenizer_;
  State state_ = State::kContent;
  std::string_view label_;      // not shown if the text begins with it, e.g. "thought\n"
  std::string held_;            // may turn out as label, white space or the beginning of a call
  bool trim_leading_ = false;   // drop white space until other text comes
  bool may_open_call_ = false;  // nothing of this content has been shown yet
  ToolCallText call_;
  bool call_is_dropped_ = false;
  bool call_is_started_ = false;  // ToolCallStart was emitted
  size_t num_tool_calls_ = 0;
  size_t num_dropped_calls_ = 0;
};

}  // namespace beryl::text
