// Escapes in JSON strings, for both strict parsers of the coordinator: JsonReader, which keeps what
// a chat template can see, and api::JsonDocument, which keeps paths and source text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace beryl::text {

// Decodes the escape whose backslash is just before `position` and appends its UTF-8 to `out`;
// `position` moves behind it. False for an unknown escape, bad digits, or half of a surrogate pair
// (no UTF-8 could hold it); `position` is then somewhere inside the escape.
bool read_json_escape(std::string_view source, size_t& position, std::string& out);

}  // namespace beryl::text
