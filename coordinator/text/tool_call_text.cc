#include "coordinator/text/tool_call_text.h"

#include <algorithm>

#include "coordinator/text/call_arguments.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {

void ToolCallText::begin(bool has_marker) {
  *this = ToolCallText();
  has_marker_ = has_marker;
}

// Braces inside quotes do not count, but quotes around the name are stray. Parentheses count only
// as the outermost pair.
void ToolCallText::track(char c) {
  if (c == kQuoteByte && has_name()) in_quotes_ = !in_quotes_;
  if (in_quotes_) return;
  const bool opens = c == '{' || (c == '(' && num_open_ == 0);
  if (opens && num_open_++ == 0) body_begin_ = text_.size();
  if ((c == '}' || (c == ')' && num_open_ == 1)) && num_open_ > 0 && --num_open_ == 0) {
    is_balanced_ = true;
  }
}

size_t ToolCallText::append(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_inner_byte = (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
    if (text_.size() >= kMaxToolCallBytes && !is_inner_byte) is_full_ = true;
    if (is_full_) return text.size();
    text_ += text[i];
    if (!is_balanced_) track(text[i]);
    if (is_balanced_ && !has_marker_) return i + 1;
  }
  return text.size();
}

std::string ToolCallText::name() const {
  std::string_view head(text_);
  if (has_name()) head = head.substr(0, body_begin_ - 1);
  std::string name(head);
  std::erase(name, kQuoteByte);  // before trim(), which wants UTF-8
  name = std::string(trim(name));
  if (name.starts_with("call:")) {
    name.erase(0, 5);
  } else if (name.starts_with(':')) {
    name.erase(0, 1);
  }
  return std::string(trim(name));
}

std::string ToolCallText::arguments(bool is_complete) const {
  if (!has_name()) return "{}";
  const std::string_view body = std::string_view(text_).substr(body_begin_);
  return call_arguments_to_json(body, is_complete);
}

}  // namespace beryl::text
