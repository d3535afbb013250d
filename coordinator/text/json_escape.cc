#include "coordinator/text/json_escape.h"

#include <charconv>
#include <cstdint>

#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

bool accept(std::string_view source, size_t& position, char c) {
  if (position >= source.size() || source[position] != c) return false;
  ++position;
  return true;
}

// Four hexadecimal digits.
bool read_code_unit(std::string_view source, size_t& position, uint32_t& unit) {
  if (position > source.size()) return false;
  const std::string_view digits = source.substr(position, 4);
  const char* last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, unit, 16);
  if (digits.size() < 4 || error != std::errc{} || end != last) return false;
  position += 4;
  return true;
}

}  // namespace

bool read_json_escape(std::string_view source, size_t& position, std::string& out) {
  constexpr std::string_view kEscapes = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (position >= source.size()) return false;
  const char c = source[position++];
  const size_t simple = kEscapes.find(c);
  if (simple != std::string_view::npos) {
    out += kMeanings[simple];
    return true;
  }
  uint32_t unit = 0;
  if (c != 'u' || !read_code_unit(source, position, unit)) return false;
  if (unit >= 0xDC00 && unit <= 0xDFFF) return false;
  if (unit >= 0xD800 && unit <= 0xDBFF) {
    uint32_t low = 0;
    if (!accept(source, position, '\\') || !accept(source, position, 'u')) return false;
    if (!read_code_unit(source, position, low) || low < 0xDC00 || low > 0xDFFF) return false;
    unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
  }
  append_utf8(unit, out);
  return true;
}

}  // namespace beryl::text
