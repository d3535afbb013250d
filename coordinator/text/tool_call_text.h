// The text of one tool call while it arrives: `call:NAME{k:v,…}`.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace beryl::text {

// Text of one call beyond this is dropped; the last code point is kept whole.
constexpr size_t kMaxToolCallBytes = size_t{1} << 20;

class ToolCallText {
 public:
  // A call that the model began without its marker ends where its braces balance; one with a marker
  // ends at the next marker, whatever its braces.
  void begin(bool has_marker);

  // Adds text, quote tokens as kQuoteByte. Returns how many bytes were taken: fewer than given
  // where the call ended.
  size_t append(std::string_view text);

  bool has_name() const { return body_begin_ != 0; }
  // The braces of a call without marker have balanced.
  bool ends_here() const { return is_balanced_ && !has_marker_; }

  // The name, once the brace after it has come; without one (at the end of the call) all that came.
  std::string name() const;

  // JSON of the arguments that came.
  std::string arguments(bool is_complete) const;

 private:
  void track(char c);

  std::string text_;
  size_t body_begin_ = 0;  // after the opening brace; 0 until it has come
  size_t num_open_ = 0;
  bool in_quotes_ = false;
  bool has_marker_ = true;
  bool is_balanced_ = false;
  bool is_full_ = false;
};

}  // namespace beryl::text
