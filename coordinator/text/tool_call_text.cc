#include "coordinator/text/tool_call_text.h"

#include <algorithm>

#include "coordinator/text/call_arguments.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {

void ToolCallText::begin(bool has_marker) {
  *this = ToolCallText();
  has_marker_ = has_marker;
}

// Braces inside quotes do not count. Parentheses count only as the outermost pair.
void ToolCallText::track(char c) {
  if (c == kQuoteByte) in_quotes_ = !in_quotes_;
  if (in_quotes_) return;
  const bool opens = c == '{' || (c == '(' && num_open_ == 0);
  if (opens && num_open_++ == 0) body_begin_ = text_.size();
  if ((c == '}' || (c == ')' && num_open_ == 1)) && num_open_ > 0 && --num_open_ == 0) {
    is_balanced_ = true;
  }
}

size_t ToolCallText::append(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text_.size() >= kMaxToolCallBytes) return text.size();
    text_ += text[i];
    if (!is_balanced_) track(text[i]);
    if (is_balanced_ && !has_marker_) return i + 1;
  }
  return text.size();
}

std::string ToolCallText::name() const {
  std::string_view head(text_);
  if (has_name()) head = head.substr(0, body_begin_ - 1);
  std::string name(trim(head));
  std::erase(name, kQuoteByte);
  if (name.starts_with("call:")) {
    name.erase(0, 5);
  } else if (name.starts_with(':')) {
    name.erase(0, 1);
  }
  return std::string(trim(name));
}

std::string ToolCallText::arguments(bool is_complete) const {
  if (!has_name()) return "{}";
  std::string_view body = std::string_view(text_).substr(body_begin_);
  if (text_.size() >= kMaxToolCallBytes) {  // the limit may have cut a code point
    while (!body.empty() && (static_cast<unsigned char>(body.back()) & 0xC0) == 0x80) {
      body.remove_suffix(1);
    }
    if (!body.empty() && static_cast<unsigned char>(body.back()) >= 0xC0 &&
        body.back() != kQuoteByte) {
      body.remove_suffix(1);
    }
  }
  return call_arguments_to_json(body, is_complete);
}

}  // namespace beryl::text
