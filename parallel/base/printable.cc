#include "parallel/base/printable.h"

#include <fmt/format.h>

namespace beryl::base {

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kMaxPrintableBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", byte);
    }
  }
  if (text.size() > kMaxPrintableBytes) out += "...";
  return out;
}

}  // namespace beryl::base
