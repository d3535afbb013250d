// One choice of a text completion: tokens in, text and log-probabilities out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/api/completion_request.h"
#include "coordinator/api/response_parts.h"
#include "coordinator/text/detokenizer.h"
#include "coordinator/text/stop_matcher.h"

namespace beryl::api {

// The four lists of the classic form, each as comma-joined JSON.
struct LogprobLists {
  std::string tokens;
  std::string token_logprobs;
  std::string top_logprobs;
  std::string text_offset;

  bool empty() const noexcept { return tokens.empty(); }
  void clear();
  void append_to(std::string& out) const;  // as an object
};

class CompletionChoice {
 public:
  // All must outlive this. `prompt_token_ids` is echoed where the request says so.
  CompletionChoice(const CompletionRequest& request, const std::vector<int32_t>& prompt_token_ids,
                   const text::Tokenizer& tokenizer);

  // Appends to `text` and `logprobs` what is new. True when the choice is over.
  bool push(const scheduler::SchedulerEvent& event, std::string& text, LogprobLists& logprobs);

  const Finish& finish() const noexcept { return finish_; }
  size_t num_tokens() const noexcept { return num_tokens_; }
  const std::vector<scheduler::GeneratedToken>& prompt_logprobs() const noexcept {
    return prompt_logprobs_;
  }

 private:
  void echo_prompt(std::string& text, LogprobLists& logprobs);
  void append_token(const scheduler::GeneratedToken& token, LogprobLists& logprobs);
  void append_logprob_entry(int32_t token_id, const scheduler::GeneratedToken* token,
                            LogprobLists& logprobs);
  bool append_text(const std::string& fresh, std::string& text);
  void end(const scheduler::SchedulerEvent& event);

  const CompletionRequest& request_;
  const std::vector<int32_t>& prompt_token_ids_;
  const text::Tokenizer& tokenizer_;
  text::Detokenizer detokenizer_;
  std::optional<text::StopMatcher> stops_;
  Finish finish_;
  size_t num_tokens_ = 0;
  size_t text_offset_ = 0;  // in code points
  bool echoed_ = false;
  std::vector<scheduler::GeneratedToken> prompt_logprobs_;  // of prompt tokens 1, 2, …
};

}  // namespace beryl::api
