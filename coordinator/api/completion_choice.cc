#include "coordinator/api/completion_choice.h"

#include <algorithm>
#include <utility>

#include "coordinator/api/json_writer.h"

namespace beryl::api {

using scheduler::FinishReason;
using scheduler::GeneratedToken;
using scheduler::SchedulerEvent;

namespace {

void append_comma(std::string& list) {
  if (!list.empty()) list += ',';
}

size_t num_code_points(std::string_view bytes) {
  return static_cast<size_t>(std::count_if(bytes.begin(), bytes.end(),
                                           [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

void LogprobLists::clear() {
  tokens.clear();
  token_logprobs.clear();
  top_logprobs.clear();
  text_offset.clear();
}

void LogprobLists::append_to(std::string& out) const {
  out += "{\"tokens\":[" + tokens + "],\"token_logprobs\":[" + token_logprobs +
         "],\"top_logprobs\":[" + top_logprobs + "],\"text_offset\":[" + text_offset + "]}";
}

CompletionChoice::CompletionChoice(const CompletionRequest& request,
                                   const std::vector<int32_t>& prompt_token_ids,
                                   const text::Tokenizer& tokenizer)
    : request_(request),
      prompt_token_ids_(prompt_token_ids),
      tokenizer_(tokenizer),
      detokenizer_(tokenizer, {.skip_special = request.fields.skip_special_tokens}) {
  if (request.fields.stops.empty()) return;
  auto matcher = text::StopMatcher::create(
      request.fields.stops,
      {.include_stop_str_in_output = request.fields.include_stop_str_in_output});
  stops_ = std::move(matcher).value();  // checked when the request was parsed
}

bool CompletionChoice::push(const SchedulerEvent& event, std::string& text,
                            LogprobLists& logprobs) {
  prompt_logprobs_.insert(prompt_logprobs_.end(), event.prompt_logprobs.begin(),
                          event.prompt_logprobs.end());
  if (request_.echo && !echoed_ && (!event.tokens.empty() || event.finished)) {
    echo_prompt(text, logprobs);
  }
  std::string fresh;
  const bool wants_tokens = request_.fields.max_tokens != 0U;
  for (size_t i = 0; wants_tokens && i < event.tokens.size(); ++i) {
    const bool ends =
        event.finished && event.reason == FinishReason::kStop && i + 1 == event.tokens.size();
    ++num_tokens_;
    if (request_.fields.top_logprobs) append_token(event.tokens[i], logprobs);
    if (!ends || request_.fields.include_stop_str_in_output) {
      detokenizer_.push(event.tokens[i].token_id, fresh);
    }
  }
  if (event.finished) detokenizer_.flush(fresh);
  if (append_text(fresh, text)) return true;
  if (!event.finished) return false;
  if (stops_) text += stops_->finish();
  end(event);
  return true;
}

// The prompt is text of the caller: it passes no stop strings.
void CompletionChoice::echo_prompt(std::string& text, LogprobLists& logprobs) {
  echoed_ = true;
  text += text::decode(tokenizer_, prompt_token_ids_, request_.fields.skip_special_tokens);
  if (!request_.fields.top_logprobs) return;
  for (size_t i = 0; i < prompt_token_ids_.size(); ++i) {
    const bool known = i > 0 && i - 1 < prompt_logprobs_.size();
    append_logprob_entry(prompt_token_ids_[i], known ? &prompt_logprobs_[i - 1] : nullptr,
                         logprobs);
  }
}

void CompletionChoice::append_token(const GeneratedToken& token, LogprobLists& logprobs) {
  append_logprob_entry(token.token_id, &token, logprobs);
}

// `token` is null for the first token of a prompt, which has no probability.
void CompletionChoice::append_logprob_entry(int32_t token_id, const GeneratedToken* token,
                                            LogprobLists& logprobs) {
  const std::string_view bytes = token_bytes(tokenizer_, token_id);
  append_comma(logprobs.tokens);
  append_lossy_string(bytes, logprobs.tokens);
  append_comma(logprobs.text_offset);
  append_number(static_cast<int64_t>(text_offset_), logprobs.text_offset);
  const bool hidden = request_.fields.skip_special_tokens && tokenizer_.is_special(token_id);
  if (!hidden) text_offset_ += num_code_points(bytes);
  append_comma(logprobs.token_logprobs);
  append_comma(logprobs.top_logprobs);
  if (token == nullptr) {
    logprobs.token_logprobs += "null";
    logprobs.top_logprobs += "null";
    return;
  }
  append_logprob(token->logprob, logprobs.token_logprobs);
  const size_t num_top = std::min<size_t>(*request_.fields.top_logprobs, token->top.size());
  logprobs.top_logprobs += '{';
  for (size_t i = 0; i < num_top; ++i) {
    if (i > 0) logprobs.top_logprobs += ',';
    append_lossy_string(token_bytes(tokenizer_, token->top[i].token_id), logprobs.top_logprobs);
    logprobs.top_logprobs += ':';
    append_logprob(token->top[i].logprob, logprobs.top_logprobs);
  }
  logprobs.top_logprobs += '}';
}

bool CompletionChoice::append_text(const std::string& fresh, std::string& text) {
  if (!stops_) {
    text += fresh;
    return false;
  }
  text::StopMatcher::Output output = stops_->push(fresh);
  text += output.text;
  if (!output.matched_stop) return false;
  finish_.reason = "stop";
  append_string(request_.fields.stops[*output.matched_stop], finish_.stop_reason);
  return true;
}

void CompletionChoice::end(const SchedulerEvent& event) {
  finish_.reason =
      event.reason == FinishReason::kLength || request_.fields.max_tokens == 0U ? "length" : "stop";
  const auto& asked = request_.fields.stop_token_ids;
  if (event.reason == FinishReason::kStop &&
      std::find(asked.begin(), asked.end(), event.stop_token_id) != asked.end()) {
    append_number(event.stop_token_id, finish_.stop_reason);
  }
}

}  // namespace beryl::api
