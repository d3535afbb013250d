#include "coordinator/text/output_parser.h"

#include <algorithm>
#include <utility>

#include "coordinator/text/call_arguments.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

constexpr std::string_view kThoughtLabel = "thought\n";
constexpr std::string_view kModelLabel = "model\n";
constexpr std::string_view kCallWord = "call:";

// Appends to the last delta if it is of the same kind.
template <typename Delta>
void emit_text(std::string_view text, std::vector<OutputDelta>& out) {
  if (text.empty()) return;
  Delta* const last = out.empty() ? nullptr : std::get_if<Delta>(&out.back());
  if (last != nullptr) {
    last->text += text;
  } else {
    out.emplace_back(Delta{std::string(text)});
  }
}

// Is one the beginning of the other?
bool agree(std::string_view a, std::string_view b) {
  const size_t num_bytes = std::min(a.size(), b.size());
  return a.substr(0, num_bytes) == b.substr(0, num_bytes);
}

}  // namespace

OutputParser::OutputParser(const Tokenizer& tokenizer, const ControlTokens& control,
                           Options options)
    : tokenizer_(&tokenizer),
      control_(control),
      tool_names_(std::move(options.tool_names)),
      detokenizer_(tokenizer) {
  enter(options.starts_in_reasoning ? State::kReasoning : State::kContent, {});
  // The very beginning of an answer is shown as it is.
  trim_leading_ = options.starts_in_reasoning;
}

void OutputParser::push(std::span<const int32_t> ids, std::vector<OutputDelta>& out) {
  for (const int32_t id : ids) push_id(id, out);
}

void OutputParser::push_id(int32_t id, std::vector<OutputDelta>& out) {
  if (tokenizer_->is_special(id)) {
    push_text(detokenizer_.flush(), out);
    push_marker(id, out);
    return;
  }
  std::string text;
  detokenizer_.push(id, text);
  push_text(text, out);
}

// Control tokens that mean nothing here (media, padding, a quote outside a call, a closing marker
// of what is not open) are dropped.
void OutputParser::push_marker(int32_t id, std::vector<OutputDelta>& out) {
  if (id == control_.channel_open) {
    leave(true, out);
    enter(State::kReasoning, kThoughtLabel);
  } else if (id == control_.tool_call_open) {
    leave(true, out);
    enter(State::kToolCall, {});
    call_.begin(/*has_marker=*/true);
  } else if (id == control_.turn_open) {
    leave(true, out);
    enter(State::kContent, kModelLabel);
  } else if ((id == control_.channel_close && state_ == State::kReasoning) ||
             (id == control_.tool_call_close && state_ == State::kToolCall) ||
             id == control_.tool_response_open || id == control_.turn_close || id == control_.eos) {
    leave(true, out);
    enter(State::kContent, {});
  } else if (id == control_.quote && state_ == State::kToolCall) {
    push_call(std::string_view(&kQuoteByte, 1), out);
  }
}

void OutputParser::enter(State state, std::string_view label) {
  state_ = state;
  label_ = label;
  held_.clear();
  trim_leading_ = true;
  may_open_call_ = state == State::kContent && !tool_names_.empty();
  call_is_started_ = false;
  call_is_dropped_ =
      state == State::kToolCall && (tool_names_.empty() || num_tool_calls_ >= kMaxToolCalls);
}

// What was held back comes out, unless it is white space after reasoning or a label cut short.
void OutputParser::leave(bool is_complete, std::vector<OutputDelta>& out) {
  if (state_ == State::kToolCall) {
    end_call(is_complete, out);
    return;
  }
  const bool is_label = !label_.empty() && label_.substr(0, label_.size() - 1) == held_;
  const std::string held = is_label ? std::string() : std::exchange(held_, {});
  if (state_ == State::kReasoning) {
    emit_text<ReasoningDelta>(trim(held), out);
  } else {
    emit_text<ContentDelta>(trim_leading_ ? trim_front(held) : held, out);
  }
  held_.clear();
}

void OutputParser::push_text(std::string_view text, std::vector<OutputDelta>& out) {
  if (text.empty()) return;
  switch (state_) {
    case State::kReasoning:
      return push_reasoning(text, out);
    case State::kContent:
      return push_content(text, out);
    case State::kToolCall:
      return push_call(text, out);
  }
}

// Adds `text` to what is held and steps over the label and leading white space. Returns a view of
// `held_`; empty while the label may still come.
std::string_view OutputParser::after_label(std::string_view text) {
  held_ += text;
  if (!label_.empty()) {
    if (!agree(held_, label_)) {
      label_ = {};
    } else if (held_.size() >= label_.size()) {
      held_.erase(0, label_.size());
      label_ = {};
    } else {
      return {};
    }
  }
  if (trim_leading_) {
    held_.erase(0, held_.size() - trim_front(held_).size());
    trim_leading_ = held_.empty();
  }
  return held_;
}

void OutputParser::push_reasoning(std::string_view text, std::vector<OutputDelta>& out) {
  const std::string_view ready = after_label(text);
  size_t num_shown = trimmed_back_size(ready);
  if (ready.size() - num_shown > kMaxHeldSpaceBytes) num_shown = ready.size();
  emit_text<ReasoningDelta>(ready.substr(0, num_shown), out);
  held_.erase(0, num_shown);
}

// `text` may be the beginning of a call of a declared tool whose marker is missing.
bool OutputParser::may_begin_call(std::string_view text) const {
  if (!agree(text, kCallWord)) return false;
  if (text.size() <= kCallWord.size()) return true;
  const std::string_view rest = text.substr(kCallWord.size());
  return std::any_of(tool_names_.begin(), tool_names_.end(), [rest](const std::string& name) {
    return agree(rest, name) &&
           (rest.size() <= name.size() || rest[name.size()] == '{' || rest[name.size()] == '(');
  });
}

void OutputParser::push_content(std::string_view text, std::vector<OutputDelta>& out) {
  const std::string_view ready = after_label(text);
  if (ready.empty()) return;
  if (may_open_call_ && may_begin_call(ready)) {
    if (ready.find_first_of("{(") == std::string_view::npos) return;
    const std::string call_text = std::move(held_);
    enter(State::kToolCall, {});
    call_.begin(/*has_marker=*/false);
    push_call(call_text, out);
    return;
  }
  may_open_call_ = false;
  emit_text<ContentDelta>(ready, out);
  held_.clear();
}

void OutputParser::push_call(std::string_view text, std::vector<OutputDelta>& out) {
  if (call_is_dropped_) return;
  const size_t num_taken = call_.append(text);
  if (!call_is_started_ && call_.has_name()) start_call(out);
  if (num_taken == text.size() && !call_.ends_here()) return;
  end_call(true, out);
  enter(State::kContent, {});
  push_content(text.substr(num_taken), out);
}

void OutputParser::start_call(std::vector<OutputDelta>& out) {
  std::string name = call_.name();
  if (name.empty()) {
    call_is_dropped_ = true;
    return;
  }
  call_is_started_ = true;
  out.emplace_back(ToolCallStart{num_tool_calls_, std::move(name)});
}

void OutputParser::end_call(bool is_complete, std::vector<OutputDelta>& out) {
  if (!call_is_started_ && !call_is_dropped_ &&
      std::find(tool_names_.begin(), tool_names_.end(), call_.name()) != tool_names_.end()) {
    start_call(out);  // a name without braces: no arguments
  }
  if (!call_is_started_) {
    ++num_dropped_calls_;
    return;
  }
  out.emplace_back(ToolCallArguments{num_tool_calls_, call_.arguments(is_complete)});
  out.emplace_back(ToolCallEnd{num_tool_calls_});
  ++num_tool_calls_;
}

void OutputParser::finish(std::vector<OutputDelta>& out) {
  push_text(detokenizer_.flush(), out);
  leave(false, out);
  enter(State::kContent, {});
}

}  // namespace beryl::text
