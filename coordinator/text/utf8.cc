#include "coordinator/text/utf8.h"

#include <simdjson.h>

namespace beryl::text {
namespace {

// Bytes in a code point that starts with `first`, 0 if none starts so; and the range of its second
// byte, which is what rules out overlong forms, surrogates and values above U+10FFFF.
struct Lead {
  size_t num_bytes = 0;
  unsigned char second_min = 0x80;
  unsigned char second_max = 0xBF;
};

Lead lead_of(unsigned char first) {
  if (first < 0x80) return {1};
  if (first < 0xC2) return {0};
  if (first < 0xE0) return {2};
  if (first == 0xE0) return {3, 0xA0, 0xBF};
  if (first == 0xED) return {3, 0x80, 0x9F};
  if (first < 0xF0) return {3};
  if (first == 0xF0) return {4, 0x90, 0xBF};
  if (first < 0xF4) return {4};
  if (first == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

bool in_range(uint32_t value, uint32_t low, uint32_t high) {
  return value >= low && value <= high;
}

uint32_t lower_code_point(uint32_t c) {
  if (in_range(c, 'A', 'Z')) return c + 32;
  if (c < 0xC0) return c;
  if (in_range(c, 0xC0, 0xDE) && c != 0xD7) return c + 32;
  if (in_range(c, 0x100, 0x137) && c != 0x130) return c | 1;
  if (in_range(c, 0x139, 0x148)) return c + (c & 1);
  if (in_range(c, 0x14A, 0x177)) return c | 1;
  if (c == 0x178) return 0xFF;
  if (in_range(c, 0x179, 0x17E)) return c + (c & 1);
  if (in_range(c, 0x391, 0x3AB) && c != 0x3A2) return c + 32;
  if (in_range(c, 0x388, 0x38A)) return c + 37;
  if (c == 0x386) return 0x3AC;
  if (c == 0x38C) return 0x3CC;
  if (c == 0x38E || c == 0x38F) return c + 63;
  if (in_range(c, 0x400, 0x40F)) return c + 80;
  if (in_range(c, 0x410, 0x42F)) return c + 32;
  if (in_range(c, 0x460, 0x481) || in_range(c, 0x48A, 0x4BF)) return c | 1;
  if (in_range(c, 0x531, 0x556)) return c + 48;
  if (in_range(c, 0x1E00, 0x1E95) || in_range(c, 0x1EA0, 0x1EFF)) return c | 1;
  return c;
}

}  // namespace

Utf8Check check_utf8(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    const Lead lead = lead_of(static_cast<unsigned char>(bytes[i]));
    if (lead.num_bytes == 0) return {Utf8State::kInvalid, i};
    for (size_t k = 1; k < lead.num_bytes; ++k) {
      if (i + k == bytes.size()) return {Utf8State::kIncomplete, i};
      const auto byte = static_cast<unsigned char>(bytes[i + k]);
      const unsigned char low = k == 1 ? lead.second_min : 0x80;
      const unsigned char high = k == 1 ? lead.second_max : 0xBF;
      if (byte < low || byte > high) return {Utf8State::kInvalid, i};
    }
    i += lead.num_bytes;
  }
  return {Utf8State::kValid, i};
}

bool is_valid_utf8(std::string_view bytes) {
  return simdjson::validate_utf8(bytes.data(), bytes.size());
}

bool is_python_space(uint32_t c) {
  if (c < 0x80) return in_range(c, 0x09, 0x0D) || in_range(c, 0x1C, 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || in_range(c, 0x2000, 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view trim_front(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const CodePoint point = code_point_at(text.data() + i);
    if (!is_python_space(point.value)) break;
    i += point.num_bytes;
  }
  return text.substr(i);
}

size_t trimmed_back_size(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    if (!is_python_space(code_point_at(text.data() + start).value)) break;
    end = start;
  }
  return end;
}

std::string_view trim(std::string_view text) {
  return trim_front(text.substr(0, trimmed_back_size(text)));
}

std::string to_lower(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = code_point_at(text.data() + i);
    append_utf8(lower_code_point(point.value), lower);
    i += point.num_bytes;
  }
  return lower;
}

std::string to_upper_ascii(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return upper;
}

void append_utf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace beryl::text
