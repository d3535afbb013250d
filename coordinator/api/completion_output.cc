#include "coordinator/api/completion_output.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "coordinator/api/json_writer.h"

namespace beryl::api {

using scheduler::SchedulerEvent;

namespace {

std::string id_list(const std::vector<int32_t>& ids) {
  std::string list;
  for (const int32_t id : ids) append_token_id(id, list);
  return list;
}

size_t num_prompt_tokens(const CompletionOutputContext& context) {
  size_t count = 0;
  for (const auto& prompt : context.prompts) count += prompt.size();
  return count;
}

const std::vector<int32_t>& prompt_of(const CompletionOutputContext& context, size_t choice_idx) {
  return context.prompts[choice_idx / context.request.fields.num_choices];
}

size_t num_choices(const CompletionOutputContext& context) {
  return context.prompts.size() * context.request.fields.num_choices;
}

}  // namespace

CompletionStreamOutput::CompletionStreamOutput(CompletionOutputContext context, std::string& out)
    : context_(std::move(context)), out_(out) {
  prefix_ = "data: ";
  append_header(context_.header, prefix_);
  prefix_ += ",\"choices\":[{\"index\":";
  const size_t count = num_choices(context_);
  choices_.reserve(count);
  token_ids_.resize(count);
  logprobs_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    choices_.emplace_back(context_.request, prompt_of(context_, i), context_.tokenizer);
  }
}

bool CompletionStreamOutput::on_event(uint32_t choice_idx, const SchedulerEvent& event) {
  text_.clear();
  LogprobLists& logprobs = logprobs_[choice_idx];
  if (context_.request.fields.return_token_ids) {
    for (const auto& token : event.tokens) append_token_id(token.token_id, token_ids_[choice_idx]);
  }
  const bool is_over = choices_[choice_idx].push(event, text_, logprobs);
  if (!text_.empty() || is_over) {
    write_chunk(choice_idx, text_, logprobs, is_over);
    logprobs.clear();
  }
  return is_over;
}

void CompletionStreamOutput::write_chunk(uint32_t choice_idx, const std::string& text,
                                         const LogprobLists& logprobs, bool is_over) {
  const GenerationFields& fields = context_.request.fields;
  out_ += prefix_;
  append_number(choice_idx, out_);
  out_ += ",\"text\":";
  append_string(text, out_);
  out_ += ",\"logprobs\":";
  if (logprobs.empty()) {
    out_ += "null";
  } else {
    logprobs.append_to(out_);
  }
  out_ += ',';
  if (is_over) {
    append_finish(choices_[choice_idx].finish(), out_);
  } else {
    out_ += kNotFinished;
  }
  if (fields.return_token_ids) {
    out_ += ",\"token_ids\":[" + std::exchange(token_ids_[choice_idx], {}) + "]";
  }
  out_ += "}]";
  if (fields.continuous_usage_stats) {
    out_ += ",\"usage\":";
    append_usage(usage(), out_);
  } else if (fields.include_usage) {
    out_ += ",\"usage\":null";
  }
  out_ += "}\n\n";
  ++num_events_;
}

void CompletionStreamOutput::end() {
  if (context_.request.fields.include_usage) {
    append_usage_event(context_.header, usage(), out_);
    ++num_events_;
  }
  out_ += "data: [DONE]\n\n";
}

Usage CompletionStreamOutput::usage() const {
  Usage usage{.prompt_tokens = num_prompt_tokens(context_)};
  for (const CompletionChoice& choice : choices_) usage.completion_tokens += choice.num_tokens();
  return usage;
}

CompletionWholeOutput::CompletionWholeOutput(CompletionOutputContext context)
    : context_(std::move(context)) {
  const size_t count = num_choices(context_);
  choices_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    choices_.push_back(
        {CompletionChoice(context_.request, prompt_of(context_, i), context_.tokenizer),
         {},
         {},
         {}});
  }
}

bool CompletionWholeOutput::on_event(uint32_t choice_idx, const SchedulerEvent& event) {
  Choice& choice = choices_[choice_idx];
  if (context_.request.fields.return_token_ids) {
    for (const auto& token : event.tokens) append_token_id(token.token_id, choice.token_ids);
  }
  return choice.state.push(event, choice.text, choice.logprobs);
}

std::string CompletionWholeOutput::body() const {
  std::string out;
  append_header(context_.header, out);
  out += ",\"choices\":[";
  Usage usage{.prompt_tokens = num_prompt_tokens(context_)};
  for (uint32_t i = 0; i < choices_.size(); ++i) {
    if (i > 0) out += ',';
    append_choice(i, out);
    usage.completion_tokens += choices_[i].state.num_tokens();
  }
  out += "],\"usage\":";
  append_usage(usage, out);
  out += '}';
  return out;
}

void CompletionWholeOutput::append_choice(uint32_t choice_idx, std::string& out) const {
  const Choice& choice = choices_[choice_idx];
  const GenerationFields& fields = context_.request.fields;
  fmt::format_to(std::back_inserter(out), "{{\"index\":{},\"text\":", choice_idx);
  append_string(choice.text, out);
  out += ",\"logprobs\":";
  if (fields.top_logprobs) {
    choice.logprobs.append_to(out);
  } else {
    out += "null";
  }
  out += ',';
  append_finish(choice.state.finish(), out);
  if (fields.prompt_logprobs) {
    out += ",\"prompt_logprobs\":[null";
    for (const scheduler::GeneratedToken& token : choice.state.prompt_logprobs()) {
      out += ',';
      append_prompt_logprob(context_.tokenizer, token, *fields.prompt_logprobs, out);
    }
    out += ']';
  }
  if (fields.return_token_ids) {
    out += ",\"token_ids\":[" + choice.token_ids + "],\"prompt_token_ids\":[" +
           id_list(prompt_of(context_, choice_idx)) + "]";
  }
  out += '}';
}

}  // namespace beryl::api
