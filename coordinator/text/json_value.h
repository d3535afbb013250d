// JSON as a chat template sees it: numbers in Python's text form, object members sorted by key
// without regard to case (Jinja's dictsort), of equal keys only the last. Depth is limited, time
// and memory are linear in the text but for the sorting.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::text {

constexpr size_t kMaxJsonDepth = 64;

struct JsonValue {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  std::string text;              // of kString; of kNumber: as Python prints it
  std::vector<JsonValue> items;  // of kArray
  std::vector<std::pair<std::string, JsonValue>> members;  // of kObject, sorted

  bool is(Kind other) const { return kind == other; }

  // nullptr where this is no object or has no such member.
  const JsonValue* find(std::string_view key) const;
  JsonValue* find(std::string_view key);

  // Adds or replaces a member of an object, keeping the order.
  void set(std::string_view key, JsonValue value);
  void erase(std::string_view key);

  // Brings members appended in any order into that of dictsort; of equal keys the last value stays.
  void sort_members();

  // What Python's `if value:` decides.
  bool is_truthy() const;

  static JsonValue string(std::string_view text);
  static JsonValue boolean_of(bool value);
  static JsonValue object();
};

// `json` must be an object, null or empty (the latter two give kNull). The error has no `param`.
base::Expected<JsonValue> parse_json_object(std::string_view json);

}  // namespace beryl::text
