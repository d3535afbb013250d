#include "coordinator/media/data_uri.h"

#include <fmt/format.h>

#include <algorithm>

#include "coordinator/media/base64.h"

namespace beryl::media {
namespace {

constexpr std::string_view kScheme = "data:";
constexpr std::string_view kBase64Suffix = ";base64";

// -1 where it is none.
int hex_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

bool ends_with_ignoring_case(std::string_view text, std::string_view suffix) {
  if (text.size() < suffix.size()) return false;
  return std::equal(suffix.begin(), suffix.end(), text.end() - static_cast<long>(suffix.size()),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); });
}

}  // namespace

base::Expected<DataUri> parse_data_uri(std::string_view uri) {
  const size_t comma = uri.find(',');
  if (comma == std::string_view::npos || comma < kScheme.size()) {
    return base::invalid_argument({}, "The data: URI has no comma in front of its data.");
  }
  std::string_view head = uri.substr(kScheme.size(), comma - kScheme.size());
  DataUri parsed;
  parsed.data = uri.substr(comma + 1);
  if (ends_with_ignoring_case(head, kBase64Suffix)) {
    parsed.is_base64 = true;
    head.remove_suffix(kBase64Suffix.size());
  }
  parsed.media_type = head.substr(0, head.find(';'));
  return parsed;
}

base::Expected<std::string> decode_data_uri(const DataUri& uri, size_t max_bytes) {
  const auto too_large = [max_bytes] {
    return base::invalid_argument(
        {}, fmt::format("The data: URI holds more than the {} bytes allowed.", max_bytes));
  };
  if (!uri.is_base64) {
    if (uri.data.size() > max_bytes * 3) return too_large();
    auto bytes = percent_decode(uri.data);
    if (bytes && bytes->size() > max_bytes) return too_large();
    return bytes;
  }
  if (uri.data.size() / 4 * 3 > max_bytes + 2) return too_large();
  // Some clients encode + and / once more.
  const bool is_escaped = uri.data.find('%') != std::string_view::npos;
  std::string unescaped;
  if (is_escaped) {
    auto text = percent_decode(uri.data);
    if (!text) return text;
    unescaped = std::move(*text);
  }
  auto bytes = decode_base64(is_escaped ? std::string_view(unescaped) : uri.data);
  if (!bytes) return base::invalid_argument({}, "The data: URI is not valid base64.");
  if (bytes->size() > max_bytes) return too_large();
  return std::move(*bytes);
}

base::Expected<std::string> percent_decode(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      bytes += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
    if (low < 0) return base::invalid_argument({}, "The URI has a % without two hex digits.");
    bytes += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return bytes;
}

}  // namespace beryl::media
