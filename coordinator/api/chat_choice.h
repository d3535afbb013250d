// One choice of a chat: tokens in; reasoning, answer and tool calls out, with stop strings applied
// to the answer.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/api/chat_request.h"
#include "coordinator/api/response_parts.h"
#include "coordinator/text/output_parser.h"
#include "coordinator/text/stop_matcher.h"

namespace beryl::api {

class ChatChoice {
 public:
  // All must outlive this.
  ChatChoice(const ChatRequest& request, bool starts_in_reasoning, const text::Tokenizer& tokenizer,
             const text::ControlTokens& control);

  // Replaces `deltas` by what is new. True when the choice is over.
  bool push(const scheduler::SchedulerEvent& event, std::vector<text::OutputDelta>& deltas);

  const Finish& finish() const noexcept { return finish_; }
  size_t num_tokens() const noexcept { return num_tokens_; }
  size_t num_reasoning_tokens() const noexcept { return num_reasoning_tokens_; }

 private:
  void push_token(int32_t token_id, std::vector<text::OutputDelta>& raw);
  void end(const scheduler::SchedulerEvent& event);
  // Moves `raw` to `deltas` through the filters; true when a stop string was found.
  bool filter(std::vector<text::OutputDelta>& raw, std::vector<text::OutputDelta>& deltas);
  bool filter_content(std::string& content, std::vector<text::OutputDelta>& deltas);

  const ChatRequest& request_;
  text::OutputParser parser_;
  std::optional<text::StopMatcher> stops_;  // where there are stop strings
  Finish finish_;
  size_t num_tokens_ = 0;
  size_t num_reasoning_tokens_ = 0;
};

}  // namespace beryl::api
