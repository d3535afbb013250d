#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "coordinator/api/chat_output.h"
#include "coordinator/api/json_writer.h"

namespace beryl::api {

using scheduler::SchedulerEvent;

ChatWholeOutput::ChatWholeOutput(ChatOutputContext context) : context_(std::move(context)) {
  const uint32_t num_choices = context_.request.fields.num_choices;
  choices_.reserve(num_choices);
  for (uint32_t i = 0; i < num_choices; ++i) {
    choices_.push_back({ChatChoice(context_.request, context_.starts_in_reasoning,
                                   context_.tokenizer, context_.control),
                        {},
                        {},
                        {},
                        {},
                        {}});
  }
}

bool ChatWholeOutput::on_event(uint32_t choice_idx, const SchedulerEvent& event) {
  Choice& choice = choices_[choice_idx];
  if (choice_idx == 0) {
    prompt_logprobs_.insert(prompt_logprobs_.end(), event.prompt_logprobs.begin(),
                            event.prompt_logprobs.end());
  }
  for (const scheduler::GeneratedToken& token : event.tokens) {
    if (context_.request.logprobs) {
      if (!choice.logprobs.empty()) choice.logprobs += ',';
      append_chat_logprob(context_.tokenizer, token, choice.logprobs);
    }
    if (context_.request.fields.return_token_ids) append_token_id(token.token_id, choice.token_ids);
  }
  const bool is_over = choice.state.push(event, deltas_);
  for (const text::OutputDelta& delta : deltas_) collect(choice, delta);
  return is_over;
}

void ChatWholeOutput::collect(Choice& choice, const text::OutputDelta& delta) {
  if (const auto* content = std::get_if<text::ContentDelta>(&delta)) {
    choice.content += content->text;
  } else if (const auto* reasoning = std::get_if<text::ReasoningDelta>(&delta)) {
    choice.reasoning += reasoning->text;
  } else if (const auto* start = std::get_if<text::ToolCallStart>(&delta)) {
    choice.tool_calls.push_back({start->name, {}});
  } else if (const auto* arguments = std::get_if<text::ToolCallArguments>(&delta)) {
    choice.tool_calls.back().arguments += arguments->json;
  }
}

std::string ChatWholeOutput::body() const {
  std::string out;
  append_header(context_.header, out);
  out += ",\"choices\":[";
  Usage usage{.prompt_tokens = context_.prompt_token_ids.size(),
              .image_tokens = context_.num_image_tokens,
              .video_tokens = context_.num_video_tokens};
  for (uint32_t i = 0; i < choices_.size(); ++i) {
    if (i > 0) out += ',';
    append_choice(i, out);
    usage.completion_tokens += choices_[i].state.num_tokens();
    usage.reasoning_tokens += choices_[i].state.num_reasoning_tokens();
  }
  out += "],\"usage\":";
  append_usage(usage, out);
  if (context_.request.fields.prompt_logprobs) append_prompt_logprobs(out);
  if (context_.request.fields.return_token_ids) {
    std::string ids;
    for (const int32_t id : context_.prompt_token_ids) append_token_id(id, ids);
    out += ",\"prompt_token_ids\":[" + ids + "]";
  }
  out += '}';
  return out;
}

void ChatWholeOutput::append_choice(uint32_t choice_idx, std::string& out) const {
  const Choice& choice = choices_[choice_idx];
  fmt::format_to(std::back_inserter(out), "{{\"index\":{},\"message\":{{", choice_idx);
  append_message(choice_idx, out);
  out += "},\"logprobs\":";
  out += context_.request.logprobs ? "{\"content\":[" + choice.logprobs + "],\"refusal\":null},"
                                   : "null,";
  append_finish(choice.state.finish(), out);
  if (context_.request.fields.return_token_ids) {
    out += ",\"token_ids\":[" + choice.token_ids + "]";
  }
  out += '}';
}

void ChatWholeOutput::append_message(uint32_t choice_idx, std::string& out) const {
  const Choice& choice = choices_[choice_idx];
  out += "\"role\":\"assistant\",\"content\":";
  if (choice.content.empty() && !choice.tool_calls.empty()) {
    out += "null";
  } else {
    append_string(choice.content, out);
  }
  out += ",\"refusal\":null";
  if (!choice.reasoning.empty()) {
    if (context_.reasoning_field != ReasoningField::kReasoningContent) {
      out += ",\"reasoning\":";
      append_string(choice.reasoning, out);
    }
    if (context_.reasoning_field != ReasoningField::kReasoning) {
      out += ",\"reasoning_content\":";
      append_string(choice.reasoning, out);
    }
  }
  if (choice.tool_calls.empty()) return;
  out += ",\"tool_calls\":[";
  for (size_t i = 0; i < choice.tool_calls.size(); ++i) {
    fmt::format_to(std::back_inserter(out),
                   "{}{{\"id\":\"{}{:02x}{:02x}\",\"type\":\"function\",\"function\":{{\"name\":",
                   i > 0 ? "," : "", context_.call_id_prefix, choice_idx, i);
    append_string(choice.tool_calls[i].name, out);
    out += ",\"arguments\":";
    append_string(choice.tool_calls[i].arguments, out);
    out += "}}";
  }
  out += ']';
}

void ChatWholeOutput::append_prompt_logprobs(std::string& out) const {
  out += ",\"prompt_logprobs\":[null";
  for (const scheduler::GeneratedToken& token : prompt_logprobs_) {
    out += ',';
    append_prompt_logprob(context_.tokenizer, token, *context_.request.fields.prompt_logprobs, out);
  }
  out += ']';
}

}  // namespace beryl::api
