#include "coordinator/api/json_writer.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <iterator>

#include "coordinator/text/utf8.h"

namespace beryl::api {
namespace {

constexpr float kLogprobFloor = -9999.0F;

constexpr std::array<bool, 256> make_plain_table() {
  std::array<bool, 256> plain{};
  for (size_t c = 0x20; c < 256; ++c) plain[c] = c != '"' && c != '\\' && c != 0x7f;
  return plain;
}
constexpr std::array<bool, 256> kPlain = make_plain_table();

void append_escape(unsigned char c, std::string& out) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
  }
}

}  // namespace

void append_escaped(std::string_view text, std::string& out) {
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (kPlain[c]) continue;
    out.append(text, begin, i - begin);
    append_escape(c, out);
    begin = i + 1;
  }
  out.append(text, begin, text.size() - begin);
}

void append_string(std::string_view text, std::string& out) {
  out += '"';
  append_escaped(text, out);
  out += '"';
}

void append_number(int64_t number, std::string& out) {
  out += fmt::format_int(number).c_str();
}

void append_logprob(float logprob, std::string& out) {
  const float finite = std::isfinite(logprob) && logprob > kLogprobFloor ? logprob : kLogprobFloor;
  fmt::format_to(std::back_inserter(out), "{}", finite);
}

void append_lossy_string(std::string_view bytes, std::string& out) {
  out += '"';
  while (!bytes.empty()) {
    const size_t valid_bytes = text::check_utf8(bytes).valid_bytes;
    append_escaped(bytes.substr(0, valid_bytes), out);
    bytes.remove_prefix(valid_bytes);
    if (bytes.empty()) break;
    out += text::kReplacement;
    bytes.remove_prefix(1);
  }
  out += '"';
}

}  // namespace beryl::api
