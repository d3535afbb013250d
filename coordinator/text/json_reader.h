// A strict JSON parser (RFC 8259) that keeps what a chat template can see and other parsers lose:
// the order of members, integers of any size, the spelling of numbers.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "coordinator/text/json_value.h"

namespace beryl::text {

class JsonReader {
 public:
  // `json` must be valid UTF-8 and outlive this.
  explicit JsonReader(std::string_view json) : json_(json) {}

  // Reads the whole text. False: see error().
  bool read(JsonValue& out);

  std::string_view error() const { return error_; }
  // Where reading stopped, in bytes.
  size_t position() const { return position_; }

 private:
  bool read_value(JsonValue& out, size_t depth);
  bool read_object(JsonValue& out, size_t depth);
  bool read_array(JsonValue& out, size_t depth);
  bool read_string(std::string& out);
  bool read_number(JsonValue& out);
  bool read_word(std::string_view word);
  bool accept(char c);
  void skip_space();
  bool fail(std::string_view error);

  std::string_view json_;
  size_t position_ = 0;
  std::string_view error_;
};

}  // namespace beryl::text
