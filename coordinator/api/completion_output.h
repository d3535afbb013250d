// Answers of POST /v1/completions: as a stream of chunks, or whole.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/api/completion_choice.h"
#include "coordinator/api/generation_session.h"

namespace beryl::api {

// All must outlive the output. Choice p * n + i is the i-th of prompt p.
struct CompletionOutputContext {
  const CompletionRequest& request;
  const std::vector<std::vector<int32_t>>& prompts;
  ResponseHeader header;
  const text::Tokenizer& tokenizer;
};

class CompletionStreamOutput final : public GenerationOutput {
 public:
  CompletionStreamOutput(CompletionOutputContext context, std::string& out);

  bool on_event(uint32_t choice_idx, const scheduler::SchedulerEvent& event) override;
  void end();
  uint64_t num_events() const noexcept { return num_events_; }

 private:
  void write_chunk(uint32_t choice_idx, const std::string& text, const LogprobLists& logprobs,
                   bool is_over);
  Usage usage() const;

  CompletionOutputContext context_;
  std::string& out_;
  std::string prefix_;
  std::vector<CompletionChoice> choices_;
  std::vector<std::string> token_ids_;  // that wait for the next chunk, by choice
  std::vector<LogprobLists> logprobs_;  // the same
  std::string text_;
  uint64_t num_events_ = 0;
};

class CompletionWholeOutput final : public GenerationOutput {
 public:
  explicit CompletionWholeOutput(CompletionOutputContext context);

  bool on_event(uint32_t choice_idx, const scheduler::SchedulerEvent& event) override;
  std::string body() const;

 private:
  struct Choice {
    CompletionChoice state;
    std::string text;
    LogprobLists logprobs;
    std::string token_ids;
  };

  void append_choice(uint32_t choice_idx, std::string& out) const;

  CompletionOutputContext context_;
  std::vector<Choice> choices_;
};

}  // namespace beryl::api
