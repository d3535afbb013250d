// data: URIs (RFC 2397) as clients send pictures.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "parallel/base/expected.h"

namespace beryl::media {

struct DataUri {
  std::string_view media_type;  // without parameters; may be empty, and may lie
  bool is_base64 = false;
  std::string_view data;  // still encoded
};

// Splits; views point into `uri`.
base::Expected<DataUri> parse_data_uri(std::string_view uri);

// The bytes. Fails where the encoding is wrong or more than `max_bytes` would come out.
base::Expected<std::string> decode_data_uri(const DataUri& uri, size_t max_bytes);

// %XX to bytes; fails on a % without two hexadecimal digits.
base::Expected<std::string> percent_decode(std::string_view text);

}  // namespace beryl::media
