#include "coordinator/text/python_number.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <system_error>

namespace beryl::text {
namespace {

size_t count_digits(std::string_view text, size_t begin) {
  size_t end = begin;
  while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
  return end - begin;
}

}  // namespace

bool is_json_number(std::string_view token) {
  size_t i = token.starts_with('-') ? 1 : 0;
  const size_t num_digits = count_digits(token, i);
  if (num_digits == 0 || (num_digits > 1 && token[i] == '0')) return false;
  i += num_digits;
  if (i < token.size() && token[i] == '.') {
    const size_t num_decimals = count_digits(token, ++i);
    if (num_decimals == 0) return false;
    i += num_decimals;
  }
  if (i < token.size() && (token[i] == 'e' || token[i] == 'E')) {
    ++i;
    if (i < token.size() && (token[i] == '+' || token[i] == '-')) ++i;
    const size_t num_exponent = count_digits(token, i);
    if (num_exponent == 0) return false;
    i += num_exponent;
  }
  return i == token.size();
}

// Shortest digits that come back to the same value; an exponent below 1e-4 and from 1e16 on.
std::string python_float(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  if (std::isnan(value)) return "nan";
  char buffer[64];  // shortest form: at most 17 digits, sign, point and exponent
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<size_t>(end - buffer));
  const size_t e = shortest.find('e');
  const bool negative = shortest.starts_with('-');
  std::string digits;
  for (const char c : shortest.substr(negative ? 1 : 0, e - (negative ? 1 : 0))) {
    if (c != '.') digits += c;
  }
  int exponent = 0;
  const char* exponent_begin = buffer + e + (buffer[e + 1] == '+' ? 2 : 1);
  std::from_chars(exponent_begin, end, exponent);

  std::string out = negative ? "-" : "";
  const auto num_digits = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (num_digits > 1) out.append(".").append(digits, 1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (num_digits <= exponent + 1) {
    return out + digits + std::string(static_cast<size_t>(exponent + 1 - num_digits), '0') + ".0";
  }
  return out + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

std::string python_number(std::string_view token) {
  if (!is_json_number(token)) return {};
  const size_t mark = token.find_first_of(".eE");
  if (mark == std::string_view::npos) return token == "-0" ? "0" : std::string(token);
  double value = 0;
  const auto result = std::from_chars(token.data(), token.data() + token.size(), value);
  if (result.ec == std::errc::result_out_of_range) {  // Python gives inf or 0 and no error
    const size_t e = token.find_first_of("eE");
    const bool tiny = e == std::string_view::npos ? token.find_first_not_of("-0.") >= mark
                                                  : token.substr(e + 1).starts_with('-');
    value = tiny ? 0.0 : std::numeric_limits<double>::infinity();
    if (token.starts_with('-')) value = -value;
  }
  return python_float(value);
}

}  // namespace beryl::text
