// Every function moves forward whatever it finds, so any text ends in linear time; every value that
// is begun is written whole, so the result is valid JSON.
#include "coordinator/text/call_arguments.h"

#include <fmt/format.h>

#include "coordinator/text/json_reader.h"
#include "coordinator/text/python_number.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";

// NOTE: text that may hold kQuoteByte is no UTF-8, so trim() must not see it.
std::string_view trim_ascii(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

class CallReader {
 public:
  CallReader(std::string_view body, bool is_complete) : body_(body), is_complete_(is_complete) {}

  std::string read() {
    read_object(1);
    return std::move(json_);
  }

 private:
  void read_object(size_t depth);
  void read_array(size_t depth);
  void read_value(size_t depth);
  bool read_key(std::string& key);
  std::string_view read_quoted(size_t depth);
  bool read_json_string();
  void read_bare();
  void read_raw_container();
  void skip_junk();
  void skip_spaces_and_commas();
  bool at_end() const { return position_ >= body_.size(); }
  char peek() const { return body_[position_]; }
  bool at_one_of(std::string_view chars) const {
    return !at_end() && chars.find(peek()) != std::string_view::npos;
  }

  std::string_view body_;
  bool is_complete_;
  size_t position_ = 0;
  std::string json_;
};

void CallReader::skip_spaces_and_commas() {
  while (at_one_of(" \t\r\n,")) ++position_;
}

// To the next member or the end of the container. Quoted text is stepped over.
void CallReader::skip_junk() {
  while (!at_end() && !at_one_of(",}])")) {
    const bool is_quote = peek() == kQuoteByte;
    ++position_;
    if (!is_quote) continue;
    const size_t close = body_.find(kQuoteByte, position_);
    position_ = close == std::string_view::npos ? body_.size() : close + 1;
  }
}

void CallReader::read_object(size_t depth) {
  json_ += '{';
  std::string key;
  for (bool first = true;; skip_junk()) {
    skip_spaces_and_commas();
    if (at_end()) break;
    if (at_one_of("})")) {
      ++position_;
      break;
    }
    if (peek() == ']') {  // closes nothing
      ++position_;
      continue;
    }
    if (!read_key(key)) continue;
    if (!first) json_ += ',';
    first = false;
    append_json_string(key, json_);
    json_ += ':';
    if (at_one_of(":")) {
      ++position_;
      read_value(depth);
    } else {
      json_ += "null";
    }
  }
  json_ += '}';
}

// False where there is none; then at least the offending character has been stepped over.
bool CallReader::read_key(std::string& key) {
  if (peek() == kQuoteByte) {
    key = read_quoted(0);
  } else {
    const size_t end = std::min(body_.find_first_of(":,})", position_), body_.size());
    key = trim_ascii(body_.substr(position_, end - position_));
    if (key.size() >= 2 && key.front() == '"' && key.back() == '"') {
      key = key.substr(1, key.size() - 2);
    }
    position_ = end;
  }
  while (at_one_of(kSpaces)) ++position_;
  if (!key.empty()) return true;
  if (at_one_of(":")) ++position_;
  return false;
}

void CallReader::read_array(size_t depth) {
  json_ += '[';
  for (bool first = true;; skip_junk()) {
    skip_spaces_and_commas();
    if (at_end() || at_one_of("})")) break;  // the braces belong to the container around
    if (peek() == ']') {
      ++position_;
      break;
    }
    if (!first) json_ += ',';
    first = false;
    read_value(depth);
  }
  json_ += ']';
}

void CallReader::read_value(size_t depth) {
  while (at_one_of(kSpaces)) ++position_;
  if (at_end()) {
    json_ += "null";
  } else if (peek() == kQuoteByte) {
    append_json_string(read_quoted(depth), json_);
  } else if (at_one_of("{[") && depth >= kMaxCallDepth) {
    read_raw_container();
  } else if (peek() == '{') {
    ++position_;
    read_object(depth + 1);
  } else if (peek() == '[') {
    ++position_;
    read_array(depth + 1);
  } else if (peek() != '"' || !read_json_string()) {
    read_bare();
  }
}

// Text between quote tokens. `depth`: how many closing braces may follow an unterminated string.
std::string_view CallReader::read_quoted(size_t depth) {
  const size_t begin = ++position_;
  const size_t close = body_.find(kQuoteByte, begin);
  if (close != std::string_view::npos) {
    position_ = close + 1;
    return body_.substr(begin, close - begin);
  }
  position_ = body_.size();
  std::string_view text = body_.substr(begin);
  for (size_t i = 0; is_complete_ && i < depth; ++i) {
    const std::string_view trimmed = text.substr(0, trimmed_back_size(text));
    if (trimmed.empty() || std::string_view("}])").find(trimmed.back()) == std::string_view::npos) {
      break;
    }
    text = trimmed.substr(0, trimmed.size() - 1);
  }
  return text;
}

// "…" as in JSON, which the model sometimes falls into.
bool CallReader::read_json_string() {
  size_t end = position_ + 1;
  while (end < body_.size() && body_[end] != '"' && body_[end] != kQuoteByte) {
    end += body_[end] == '\\' ? 2 : 1;
  }
  if (end >= body_.size() || body_[end] != '"') return false;
  const size_t next = body_.find_first_not_of(kSpaces, end + 1);
  if (next != std::string_view::npos &&
      std::string_view(",}])").find(body_[next]) == std::string_view::npos) {
    return false;
  }
  const std::string_view token = body_.substr(position_, end + 1 - position_);
  JsonValue value;
  if (!JsonReader(token).read(value)) return false;
  append_json_string(value.text, json_);
  position_ = end + 1;
  return true;
}

// Up to the end of the member: a word, a number, or a string whose quotes the model forgot.
void CallReader::read_bare() {
  constexpr char kEnds[] = {',', '}', ']', kQuoteByte};
  const size_t end =
      std::min(body_.find_first_of(std::string_view(kEnds, sizeof kEnds), position_), body_.size());
  std::string_view text = trim(body_.substr(position_, end - position_));
  position_ = end;
  if (text.ends_with(')') && text.find('(') == std::string_view::npos) {
    text = trim(text.substr(0, text.size() - 1));  // closes a call written with parentheses
  }
  if (text.empty() || text == "null" || text == "None") {
    json_ += "null";
  } else if (text == "true" || text == "True") {
    json_ += "true";
  } else if (text == "false" || text == "False") {
    json_ += "false";
  } else if (is_json_number(text)) {
    json_ += text;
  } else {
    append_json_string(text, json_);
  }
}

// Beyond the depth limit the notation itself is kept, as a string.
void CallReader::read_raw_container() {
  const size_t begin = position_;
  size_t num_open = 0;
  bool quoted = false;
  do {
    const char c = body_[position_++];
    if (c == kQuoteByte) quoted = !quoted;
    if (quoted) continue;
    if (c == '{' || c == '[') ++num_open;
    if (c == '}' || c == ']') --num_open;
  } while (num_open > 0 && !at_end());
  append_json_string(body_.substr(begin, position_ - begin), json_);
}

}  // namespace

void append_json_string(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == kQuoteByte) {
      out += "\\\"";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string call_arguments_to_json(std::string_view body, bool is_complete) {
  return CallReader(body, is_complete).read();
}

}  // namespace beryl::text
