// JSON of request bodies (RFC 8259, strict). Beside the value it gives what error messages and the
// chat format need and common parsers lose: where reading failed as a path ("messages[0].role"),
// and the source text of each value with its order of keys. Depth and number of values are bounded,
// UTF-8 is checked, numbers that no double can hold are refused. Of equal keys the last counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::api {

constexpr size_t kMaxJsonDepth = 64;
constexpr size_t kMaxJsonValues = 2'000'000;

struct Json {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  bool is(Kind other) const noexcept { return kind == other; }
  bool is_null() const noexcept { return kind == Kind::kNull; }

  // The member of an object; nullptr where there is none (or it is no object).
  const Json* find(std::string_view name) const noexcept;
  // The same, but null counts as absent.
  const Json* find_set(std::string_view name) const noexcept;

  Kind kind = Kind::kNull;
  bool boolean = false;
  bool is_integer = false;  // kNumber: written without fraction and fits, or an integral double
  double number = 0;
  int64_t integer = 0;
  std::string_view text;       // kString: decoded
  std::string_view raw;        // source text of the value
  std::string_view key;        // of a member
  std::vector<Json> children;  // items or members
};

class JsonDocument {
 public:
  // The error has code kInvalidArgument and the path as `param`, where one is known. `source` must
  // outlive the document.
  base::Status parse(std::string_view source);
  const Json& root() const noexcept { return root_; }

 private:
  friend class JsonParser;
  Json root_;
  std::deque<std::string> decoded_;  // strings that had escapes
};

// What a value is called in messages: "a string", "null" …
std::string_view kind_name(Json::Kind kind);

}  // namespace beryl::api
