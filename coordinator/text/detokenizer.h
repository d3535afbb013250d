// Token ids to text, a few at a time. Text leaves only as whole code points, so what is pushed out
// can be written to a stream at once. Over a whole sequence the text equals that of the Hugging
// Face decoder: a run of byte tokens that is not valid UTF-8 becomes one U+FFFD per byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "coordinator/text/tokenizer.h"

namespace beryl::text {

// A run of byte tokens is held back until it ends, because one bad byte spoils the whole run. Runs
// longer than this are released (whole code points first), to keep text of rare scripts flowing.
constexpr size_t kMaxHeldRunBytes = 64;

class Detokenizer {
 public:
  struct Options {
    bool skip_special = true;  // leave out control tokens
    size_t max_held_bytes = kMaxHeldRunBytes;
  };

  // `tokenizer` must outlive this.
  explicit Detokenizer(const Tokenizer& tokenizer) : Detokenizer(tokenizer, Options{}) {}
  Detokenizer(const Tokenizer& tokenizer, Options options)
      : tokenizer_(&tokenizer), options_(options) {}

  // Appends to `out` the text that is certain after `id`. Ids that do not exist are skipped.
  void push(int32_t id, std::string& out);
  // Returns the text that is certain after `ids`.
  std::string push(std::span<const int32_t> ids);

  // Ends the sequence: an incomplete code point becomes U+FFFD. Ready for a new sequence
  // afterwards.
  void flush(std::string& out);
  std::string flush();

 private:
  void push_byte(unsigned char byte, std::string& out);

  const Tokenizer* tokenizer_;
  Options options_;
  std::string run_;          // bytes of the open run of byte tokens, not yet released
  std::string open_;         // its last bytes, if they are the beginning of a code point
  bool run_is_bad_ = false;  // the run has already been found invalid
};

// Text of a whole sequence, exactly as the Hugging Face decoder gives it.
std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special);

}  // namespace beryl::text
