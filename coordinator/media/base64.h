// Base64 of RFC 4648, strict: the standard alphabet, full padding, no white space, no stray bits.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace beryl::media {

// nullopt where `text` is anything but well formed.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace beryl::media
