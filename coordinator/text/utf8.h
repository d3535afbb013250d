// The few things about UTF-8 that this folder needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace beryl::text {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr std::string_view kSpaceSymbol =
    "\xE2\x96\x81";  // U+2581, how the vocabulary writes a space

struct CodePoint {
  uint32_t value = 0;
  uint32_t num_bytes = 1;
};

// The code point at `data`, which must be the start of one in valid UTF-8.
inline CodePoint code_point_at(const char* data) {
  const auto byte = [data](int i) { return uint32_t{static_cast<unsigned char>(data[i])}; };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

enum class Utf8State { kValid, kIncomplete, kInvalid };

struct Utf8Check {
  Utf8State state = Utf8State::kValid;
  size_t valid_bytes = 0;  // whole code points at the front
};

// kIncomplete: valid so far, and the last code point may still be completed.
Utf8Check check_utf8(std::string_view bytes);

bool is_valid_utf8(std::string_view bytes);

// White space as Python's str.strip() and Jinja's `trim` understand it.
bool is_python_space(uint32_t code_point);

// Without white space at both ends. `text` must be valid UTF-8.
std::string_view trim(std::string_view text);
std::string_view trim_front(std::string_view text);

// Bytes of `text` without its trailing white space.
size_t trimmed_back_size(std::string_view text);

// Lower case for comparing keys as Python does. Covers ASCII, Latin, Greek, Cyrillic and Armenian;
// letters of other scripts stay.
std::string to_lower(std::string_view text);

// Upper case of ASCII letters, for the type names of JSON schemas.
std::string to_upper_ascii(std::string_view text);

void append_utf8(uint32_t code_point, std::string& out);

}  // namespace beryl::text
