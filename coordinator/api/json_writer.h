// Writing JSON by appending to a string: answers are made without a document tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace beryl::api {

// Text inside quotes. `text` must be valid UTF-8.
void append_escaped(std::string_view text, std::string& out);
// With quotes.
void append_string(std::string_view text, std::string& out);
void append_number(int64_t number, std::string& out);
// Finite in any case: what is not becomes the floor that clients expect of log-probabilities.
void append_logprob(float logprob, std::string& out);
// Token text as JSON: bytes that are not valid UTF-8 become U+FFFD.
void append_lossy_string(std::string_view bytes, std::string& out);

}  // namespace beryl::api
