#include "coordinator/api/chat_choice.h"

#include <algorithm>
#include <utility>

#include "coordinator/api/json_writer.h"

namespace beryl::api {

using scheduler::FinishReason;
using scheduler::SchedulerEvent;
using text::ContentDelta;
using text::OutputDelta;
using text::ReasoningDelta;

namespace {

text::OutputParser::Options parser_options(const ChatRequest& request, bool starts_in_reasoning) {
  text::OutputParser::Options options;
  options.starts_in_reasoning = starts_in_reasoning;
  for (const text::ToolDeclaration& tool : request.tools) options.tool_names.push_back(tool.name);
  return options;
}

// Which call a delta belongs to; nothing for text.
std::optional<size_t> call_index(const OutputDelta& delta) {
  if (const auto* start = std::get_if<text::ToolCallStart>(&delta)) return start->index;
  if (const auto* arguments = std::get_if<text::ToolCallArguments>(&delta)) {
    return arguments->index;
  }
  if (const auto* end = std::get_if<text::ToolCallEnd>(&delta)) return end->index;
  return std::nullopt;
}

}  // namespace

ChatChoice::ChatChoice(const ChatRequest& request, bool starts_in_reasoning,
                       const text::Tokenizer& tokenizer, const text::ControlTokens& control)
    : request_(request), parser_(tokenizer, control, parser_options(request, starts_in_reasoning)) {
  if (request.fields.stops.empty()) return;
  auto matcher = text::StopMatcher::create(
      request.fields.stops,
      {.include_stop_str_in_output = request.fields.include_stop_str_in_output});
  stops_ = std::move(matcher).value();  // checked when the request was parsed
}

bool ChatChoice::push(const SchedulerEvent& event, std::vector<OutputDelta>& deltas) {
  deltas.clear();
  std::vector<OutputDelta> raw;
  for (size_t i = 0; i < event.tokens.size(); ++i) {
    const bool is_last = i + 1 == event.tokens.size();
    ++num_tokens_;
    // The token that ends the answer is no part of it.
    if (is_last && event.finished && event.reason == FinishReason::kStop) break;
    push_token(event.tokens[i].token_id, raw);
  }
  if (event.finished) parser_.finish(raw);
  if (filter(raw, deltas)) return true;
  if (!event.finished) return false;
  if (stops_) {
    std::string held = stops_->finish();
    if (!held.empty()) deltas.emplace_back(ContentDelta{std::move(held)});
  }
  end(event);
  return true;
}

void ChatChoice::push_token(int32_t token_id, std::vector<OutputDelta>& raw) {
  const bool was_reasoning = parser_.in_reasoning();
  parser_.push({&token_id, 1}, raw);
  if (was_reasoning || parser_.in_reasoning()) ++num_reasoning_tokens_;
}

void ChatChoice::end(const SchedulerEvent& event) {
  finish_.reason = event.reason == FinishReason::kLength ? "length" : "stop";
  if (event.reason == FinishReason::kStop && parser_.num_tool_calls() > 0) {
    finish_.reason = "tool_calls";
  }
  const auto& asked = request_.fields.stop_token_ids;
  if (event.reason == FinishReason::kStop &&
      std::find(asked.begin(), asked.end(), event.stop_token_id) != asked.end()) {
    append_number(event.stop_token_id, finish_.stop_reason);
  }
}

bool ChatChoice::filter(std::vector<OutputDelta>& raw, std::vector<OutputDelta>& deltas) {
  for (OutputDelta& delta : raw) {
    if (auto* content = std::get_if<ContentDelta>(&delta)) {
      if (filter_content(content->text, deltas)) return true;
    } else if (std::holds_alternative<ReasoningDelta>(delta)) {
      if (request_.include_reasoning) deltas.push_back(std::move(delta));
    } else if (request_.parallel_tool_calls || call_index(delta).value_or(0) == 0) {
      deltas.push_back(std::move(delta));
    }
  }
  return false;
}

bool ChatChoice::filter_content(std::string& content, std::vector<OutputDelta>& deltas) {
  if (!stops_) {
    deltas.emplace_back(ContentDelta{std::move(content)});
    return false;
  }
  text::StopMatcher::Output output = stops_->push(content);
  if (!output.text.empty()) deltas.emplace_back(ContentDelta{std::move(output.text)});
  if (!output.matched_stop) return false;
  finish_.reason = "stop";
  append_string(request_.fields.stops[*output.matched_stop], finish_.stop_reason);
  return true;
}

}  // namespace beryl::api
