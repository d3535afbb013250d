// The arguments of a tool call in Gemma's own notation, turned into JSON.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace beryl::text {

// Stands for the quote token <|"|> in the text of a call; it cannot occur in UTF-8.
constexpr char kQuoteByte = '\xFF';

// Containers nested deeper become strings that hold their text.
constexpr size_t kMaxCallDepth = 64;

// `body` is what follows the opening brace of a call: `k:v,…}`. Keys are bare or quoted; values are
// strings between quote tokens (no escapes), numbers, true, false, null, lists, objects, or else
// bare strings. The result is always a valid JSON object: what is malformed is read as well as can
// be. `is_complete`: the call was closed, so the end of an unterminated string is the closing
// braces.
std::string call_arguments_to_json(std::string_view body, bool is_complete);

// Appends `text` as a JSON string; kQuoteByte becomes a plain quote.
void append_json_string(std::string_view text, std::string& out);

}  // namespace beryl::text
