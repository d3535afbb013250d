#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "coordinator/api/chat_output.h"
#include "coordinator/api/json_writer.h"

namespace beryl::api {

using scheduler::SchedulerEvent;

ChatStreamOutput::ChatStreamOutput(ChatOutputContext context, std::string& out)
    : context_(std::move(context)), out_(out) {
  prefix_ = "data: ";
  append_header(context_.header, prefix_);
  prefix_ += ",\"choices\":[{\"index\":";
  const uint32_t num_choices = context_.request.fields.num_choices;
  choices_.reserve(num_choices);
  for (uint32_t i = 0; i < num_choices; ++i) {
    choices_.push_back({ChatChoice(context_.request, context_.starts_in_reasoning,
                                   context_.tokenizer, context_.control),
                        {},
                        {}});
  }
}

void ChatStreamOutput::begin() {
  for (uint32_t i = 0; i < choices_.size(); ++i) {
    begin_chunk(i);
    out_ += "\"role\":\"assistant\",\"content\":\"\"";
    end_chunk(choices_[i], nullptr);
  }
}

bool ChatStreamOutput::on_event(uint32_t choice_idx, const SchedulerEvent& event) {
  Choice& choice = choices_[choice_idx];
  if (context_.request.logprobs) {
    for (const scheduler::GeneratedToken& token : event.tokens) {
      if (!choice.logprobs.empty()) choice.logprobs += ',';
      append_chat_logprob(context_.tokenizer, token, choice.logprobs);
    }
  }
  if (context_.request.fields.return_token_ids) {
    for (const auto& token : event.tokens) append_token_id(token.token_id, choice.token_ids);
  }
  const bool is_over = choice.state.push(event, deltas_);
  for (const text::OutputDelta& delta : deltas_) write_delta(choice_idx, delta);
  if (is_over) {
    begin_chunk(choice_idx);
    end_chunk(choice, &choice.state.finish());
  }
  return is_over;
}

void ChatStreamOutput::write_delta(uint32_t choice_idx, const text::OutputDelta& delta) {
  if (std::holds_alternative<text::ToolCallEnd>(delta)) return;
  begin_chunk(choice_idx);
  if (const auto* content = std::get_if<text::ContentDelta>(&delta)) {
    out_ += "\"content\":";
    append_string(content->text, out_);
  } else if (const auto* reasoning = std::get_if<text::ReasoningDelta>(&delta)) {
    if (context_.reasoning_field != ReasoningField::kReasoningContent) {
      out_ += "\"reasoning\":";
      append_string(reasoning->text, out_);
    }
    if (context_.reasoning_field == ReasoningField::kBoth) out_ += ',';
    if (context_.reasoning_field != ReasoningField::kReasoning) {
      out_ += "\"reasoning_content\":";
      append_string(reasoning->text, out_);
    }
  } else if (const auto* start = std::get_if<text::ToolCallStart>(&delta)) {
    fmt::format_to(std::back_inserter(out_),
                   "\"tool_calls\":[{{\"index\":{},\"id\":\"{}{:02x}{:02x}\",\"type\":\"function\","
                   "\"function\":{{\"name\":",
                   start->index, context_.call_id_prefix, choice_idx, start->index);
    append_string(start->name, out_);
    out_ += ",\"arguments\":\"\"}}]";
  } else if (const auto* arguments = std::get_if<text::ToolCallArguments>(&delta)) {
    fmt::format_to(
        std::back_inserter(out_),
        "\"tool_calls\":[{{\"index\":{},\"function\":{{\"arguments\":", arguments->index);
    append_string(arguments->json, out_);
    out_ += "}}]";
  }
  end_chunk(choices_[choice_idx], nullptr);
}

void ChatStreamOutput::begin_chunk(uint32_t choice_idx) {
  out_ += prefix_;
  append_number(choice_idx, out_);
  out_ += ",\"delta\":{";
}

void ChatStreamOutput::end_chunk(Choice& choice, const Finish* finish) {
  const GenerationFields& fields = context_.request.fields;
  out_ += "},\"logprobs\":";
  if (choice.logprobs.empty()) {
    out_ += "null,";
  } else {
    out_ += "{\"content\":[";
    out_ += choice.logprobs;
    out_ += "]},";
    choice.logprobs.clear();
  }
  if (finish != nullptr) {
    append_finish(*finish, out_);
  } else {
    out_ += kNotFinished;
  }
  if (fields.return_token_ids) {
    out_ += ",\"token_ids\":[";
    out_ += choice.token_ids;
    out_ += ']';
    choice.token_ids.clear();
  }
  out_ += "}]";
  if (fields.return_token_ids && num_events_ == 0) {
    std::string ids;
    for (const int32_t id : context_.prompt_token_ids) append_token_id(id, ids);
    out_ += ",\"prompt_token_ids\":[" + ids + "]";
  }
  if (fields.continuous_usage_stats) {
    out_ += ",\"usage\":";
    append_usage(usage(), out_);
  } else if (fields.include_usage) {
    out_ += ",\"usage\":null";
  }
  out_ += "}\n\n";
  ++num_events_;
}

void ChatStreamOutput::end() {
  if (context_.request.fields.include_usage) {
    append_usage_event(context_.header, usage(), out_);
    ++num_events_;
  }
  out_ += "data: [DONE]\n\n";
}

Usage ChatStreamOutput::usage() const {
  Usage usage{.prompt_tokens = context_.prompt_token_ids.size(),
              .image_tokens = context_.num_image_tokens,
              .video_tokens = context_.num_video_tokens};
  for (const Choice& choice : choices_) {
    usage.completion_tokens += choice.state.num_tokens();
    usage.reasoning_tokens += choice.state.num_reasoning_tokens();
  }
  return usage;
}

}  // namespace beryl::api
