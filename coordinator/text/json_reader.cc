#include "coordinator/text/json_reader.h"

#include "coordinator/text/json_escape.h"
#include "coordinator/text/python_number.h"

namespace beryl::text {

using Kind = JsonValue::Kind;

// The first error stays: those of the callers say less.
bool JsonReader::fail(std::string_view error) {
  if (error_.empty()) error_ = error;
  return false;
}

void JsonReader::skip_space() {
  const size_t next = json_.find_first_not_of(" \t\r\n", position_);
  position_ = next == std::string_view::npos ? json_.size() : next;
}

bool JsonReader::accept(char c) {
  if (position_ >= json_.size() || json_[position_] != c) return false;
  ++position_;
  return true;
}

bool JsonReader::read(JsonValue& out) {
  skip_space();
  if (!read_value(out, 1)) return false;
  skip_space();
  return position_ == json_.size() || fail("text after the value");
}

// Recursion is bounded by kMaxJsonDepth, not by the text.
bool JsonReader::read_value(JsonValue& out, size_t depth) {
  if (depth > kMaxJsonDepth + 1) return fail("nested too deeply");
  if (position_ >= json_.size()) return fail("a value is missing");
  switch (json_[position_]) {
    case '{':
      return read_object(out, depth);
    case '[':
      return read_array(out, depth);
    case '"':
      out.kind = Kind::kString;
      return read_string(out.text);
    case 't':
    case 'f':
      out.kind = Kind::kBool;
      out.boolean = json_[position_] == 't';
      return read_word(out.boolean ? "true" : "false");
    case 'n':
      return read_word("null");
    default:
      return read_number(out);
  }
}

bool JsonReader::read_object(JsonValue& out, size_t depth) {
  out.kind = Kind::kObject;
  accept('{');
  skip_space();
  if (accept('}')) return true;
  do {
    skip_space();
    auto& [key, value] = out.members.emplace_back();
    if (!read_string(key)) return fail("a key is missing");
    skip_space();
    if (!accept(':')) return fail("':' is missing after a key");
    skip_space();
    if (!read_value(value, depth + 1)) return false;
    skip_space();
  } while (accept(','));
  if (!accept('}')) return fail("',' or '}' is missing");
  out.sort_members();
  return true;
}

bool JsonReader::read_array(JsonValue& out, size_t depth) {
  out.kind = Kind::kArray;
  accept('[');
  skip_space();
  if (accept(']')) return true;
  do {
    skip_space();
    if (!read_value(out.items.emplace_back(), depth + 1)) return false;
    skip_space();
  } while (accept(','));
  return accept(']') || fail("',' or ']' is missing");
}

bool JsonReader::read_string(std::string& out) {
  if (!accept('"')) return fail("a string is missing");
  for (;;) {
    size_t end = position_;
    while (end < json_.size() && json_[end] != '"' && json_[end] != '\\' &&
           static_cast<unsigned char>(json_[end]) >= 0x20) {
      ++end;
    }
    out.append(json_, position_, end - position_);
    position_ = end;
    if (accept('"')) return true;
    if (!accept('\\')) return fail("a string is not closed or holds a raw control character");
    if (!read_json_escape(json_, position_, out)) return fail("a bad escape in a string");
  }
}

bool JsonReader::read_number(JsonValue& out) {
  const size_t end = json_.find_first_not_of("+-.0123456789eE", position_);
  const std::string_view token = json_.substr(position_, end - position_);
  out.kind = Kind::kNumber;
  out.text = python_number(token);
  if (out.text.empty()) return fail("not a value");
  position_ += token.size();
  return true;
}

bool JsonReader::read_word(std::string_view word) {
  if (json_.substr(position_, word.size()) != word) return fail("not a value");
  position_ += word.size();
  return true;
}

}  // namespace beryl::text
