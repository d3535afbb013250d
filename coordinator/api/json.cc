#include "coordinator/api/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "coordinator/text/json_escape.h"
#include "coordinator/text/utf8.h"

namespace beryl::api {

using Kind = Json::Kind;

const Json* Json::find(std::string_view name) const noexcept {
  if (kind != Kind::kObject) return nullptr;
  for (auto member = children.rbegin(); member != children.rend(); ++member) {
    if (member->key == name) return &*member;
  }
  return nullptr;
}

const Json* Json::find_set(std::string_view name) const noexcept {
  const Json* member = find(name);
  return member == nullptr || member->is_null() ? nullptr : member;
}

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return "a boolean";
    case Kind::kNumber:
      return "a number";
    case Kind::kString:
      return "a string";
    case Kind::kArray:
      return "an array";
    case Kind::kObject:
      return "an object";
  }
  return "a value";
}

// Recursive descent; the depth limit bounds the recursion. After a failure the callers add their
// part to path_ on the way out.
class JsonParser {
 public:
  JsonParser(std::string_view source, JsonDocument& document)
      : source_(source), document_(document) {}

  base::Status run() {
    skip_space();
    bool read = read_value(document_.root_, 0);
    skip_space();
    if (read && position_ != source_.size()) read = fail("there is text after the JSON value");
    if (read) return base::Status::ok();
    return base::invalid_argument(
        whole_path(),
        fmt::format("The request body is not valid JSON: {} (byte {}).", problem_, failed_at_));
  }

 private:
  bool fail(std::string_view problem) {
    problem_ = problem;
    failed_at_ = position_;
    return false;
  }

  void skip_space() {
    while (position_ < source_.size() &&
           (source_[position_] == ' ' || source_[position_] == '\n' || source_[position_] == '\r' ||
            source_[position_] == '\t')) {
      ++position_;
    }
  }

  bool accept(char c) {
    if (position_ >= source_.size() || source_[position_] != c) return false;
    ++position_;
    return true;
  }

  bool read_value(Json& out, size_t depth) {
    if (++num_values_ > kMaxJsonValues) return fail("it has too many values");
    if (position_ >= source_.size()) return fail("it ends too early");
    const size_t begin = position_;
    if (!read_value_of_kind(out, depth)) return false;
    out.raw = source_.substr(begin, position_ - begin);
    return true;
  }

  bool read_value_of_kind(Json& out, size_t depth) {
    switch (source_[position_]) {
      case '{':
      case '[':
        if (depth >= kMaxJsonDepth) return fail("it is nested too deeply");
        return source_[position_] == '{' ? read_object(out, depth) : read_array(out, depth);
      case '"':
        out.kind = Kind::kString;
        return read_string(out.text);
      case 't':
      case 'f':
        out.kind = Kind::kBool;
        out.boolean = source_[position_] == 't';
        return read_word(out.boolean ? "true" : "false");
      case 'n':
        return read_word("null");
      default:
        return read_number(out);
    }
  }

  bool read_word(std::string_view word) {
    if (source_.substr(position_, word.size()) != word) return fail("a value is malformed");
    position_ += word.size();
    return true;
  }

  bool read_object(Json& out, size_t depth) {
    out.kind = Kind::kObject;
    ++position_;
    skip_space();
    if (accept('}')) return true;
    do {
      skip_space();
      std::string_view key;
      if (position_ >= source_.size() || source_[position_] != '"') return fail("a key is missing");
      if (!read_string(key)) return false;
      skip_space();
      if (!accept(':')) return fail("':' is missing after a key");
      skip_space();
      Json& member = out.children.emplace_back();
      if (!read_value(member, depth + 1)) {
        prepend_path(key);
        return false;
      }
      member.key = key;
      skip_space();
    } while (accept(','));
    return accept('}') || fail("',' or '}' is missing");
  }

  bool read_array(Json& out, size_t depth) {
    out.kind = Kind::kArray;
    ++position_;
    skip_space();
    if (accept(']')) return true;
    do {
      skip_space();
      if (!read_value(out.children.emplace_back(), depth + 1)) {
        prepend_path(fmt::format("[{}]", out.children.size() - 1));
        return false;
      }
      skip_space();
    } while (accept(','));
    return accept(']') || fail("',' or ']' is missing");
  }

  // Keys come from the caller: only short plain ones are repeated.
  void prepend_path(std::string_view part) {
    constexpr size_t kMaxPathBytes = 100;
    const bool plain = std::all_of(part.begin(), part.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '[' || c == ']';
    });
    if (!plain || part.size() + path_.size() > kMaxPathBytes) {
      path_.clear();
      path_is_cut_ = true;
      if (!plain || part.size() > kMaxPathBytes) return;
    }
    const bool needs_dot = !path_.empty() && path_[0] != '[';
    path_ = std::string(part) + (needs_dot ? "." : "") + path_;
  }

  // Of a path that was cut only its first part is right.
  std::string whole_path() const {
    return path_is_cut_ ? path_.substr(0, path_.find_first_of(".[")) : path_;
  }

  bool read_string(std::string_view& out) {
    const size_t begin = ++position_;
    while (position_ < source_.size() && source_[position_] != '"' && source_[position_] != '\\') {
      if (static_cast<unsigned char>(source_[position_]) < 0x20) {
        return fail("a string has a control character that is not escaped");
      }
      ++position_;
    }
    if (accept('"')) {
      out = source_.substr(begin, position_ - 1 - begin);
      return true;
    }
    std::string& decoded =
        document_.decoded_.emplace_back(source_.substr(begin, position_ - begin));
    if (!read_escaped_string(decoded)) return false;
    out = decoded;
    return true;
  }

  bool read_escaped_string(std::string& out) {
    while (position_ < source_.size()) {
      const char c = source_[position_++];
      if (c == '"') return true;
      if (c == '\\') {
        if (!text::read_json_escape(source_, position_, out)) {
          return fail("a string has a malformed escape");
        }
      } else if (static_cast<unsigned char>(c) < 0x20) {
        return fail("a string has a control character that is not escaped");
      } else {
        out += c;
      }
    }
    return fail("a string is not closed");
  }

  bool skip_digits() {
    const size_t begin = position_;
    while (position_ < source_.size() && source_[position_] >= '0' && source_[position_] <= '9') {
      ++position_;
    }
    return position_ > begin;
  }

  bool read_number(Json& out) {
    const size_t begin = position_;
    accept('-');
    const bool zero = position_ < source_.size() && source_[position_] == '0';
    if (!skip_digits() || (zero && position_ > begin + (source_[begin] == '-') + 1)) {
      position_ = begin;
      return fail("a value is malformed (NaN and Infinity are no numbers here)");
    }
    bool integral = true;
    if (accept('.')) {
      integral = false;
      if (!skip_digits()) return fail("a number is malformed");
    }
    if (accept('e') || accept('E')) {
      integral = false;
      if (!accept('+')) accept('-');
      if (!skip_digits()) return fail("a number is malformed");
    }
    return convert_number(source_.substr(begin, position_ - begin), integral, out);
  }

  bool convert_number(std::string_view digits, bool integral, Json& out) {
    constexpr double kExactIntegers = 9007199254740992.0;  // 2^53
    out.kind = Kind::kNumber;
    const char* const end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, out.number);
    // Too small becomes 0, too large is refused.
    if (parsed.ec == std::errc::result_out_of_range) {
      const bool tiny = digits.find("e-") != digits.npos || digits.find("E-") != digits.npos;
      if (!tiny) return fail("a number is too large");
      out.number = 0;
    }
    if (integral) {
      out.is_integer = std::from_chars(digits.data(), end, out.integer).ec == std::errc{};
    } else if (std::trunc(out.number) == out.number && std::fabs(out.number) < kExactIntegers) {
      out.is_integer = true;
      out.integer = static_cast<int64_t>(out.number);
    }
    return true;
  }

  std::string_view source_;
  JsonDocument& document_;
  size_t position_ = 0;
  size_t num_values_ = 0;
  size_t failed_at_ = 0;
  std::string problem_;
  std::string path_;
  bool path_is_cut_ = false;
};

base::Status JsonDocument::parse(std::string_view source) {
  root_ = {};
  decoded_.clear();
  if (!text::is_valid_utf8(source)) {
    return base::invalid_argument({}, "The request body is not valid UTF-8.");
  }
  return JsonParser(source, *this).run();
}

}  // namespace beryl::api
