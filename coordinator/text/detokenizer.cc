#include "coordinator/text/detokenizer.h"

#include <string_view>

#include "coordinator/text/utf8.h"

namespace beryl::text {

void Detokenizer::push(int32_t id, std::string& out) {
  if (!tokenizer_->exists(id)) return;
  if (options_.skip_special && tokenizer_->is_special(id)) return;
  const std::string_view bytes = tokenizer_->token_bytes(id);
  if (tokenizer_->is_byte_token(id)) {
    push_byte(static_cast<unsigned char>(bytes[0]), out);
    return;
  }
  flush(out);
  out += bytes;
}

// Once a run is known to be bad, each of its bytes is one U+FFFD: those held, and all to come.
void Detokenizer::push_byte(unsigned char byte, std::string& out) {
  if (run_is_bad_) {
    out += kReplacement;
    return;
  }
  run_ += static_cast<char>(byte);
  open_ += static_cast<char>(byte);
  const Utf8Check check = check_utf8(open_);
  if (check.state == Utf8State::kInvalid) {
    run_is_bad_ = true;
    for (size_t i = 0; i < run_.size(); ++i) out += kReplacement;
    run_.clear();
    open_.clear();
    return;
  }
  open_.erase(0, check.valid_bytes);
  if (run_.size() > options_.max_held_bytes) {
    out.append(run_, 0, run_.size() - open_.size());
    run_ = open_;
  }
}

// Also the end of a run: what comes next is no byte token.
void Detokenizer::flush(std::string& out) {
  if (open_.empty()) {
    out += run_;
  } else {
    for (size_t i = 0; i < run_.size(); ++i) out += kReplacement;
  }
  run_.clear();
  open_.clear();
  run_is_bad_ = false;
}

std::string Detokenizer::push(std::span<const int32_t> ids) {
  std::string out;
  for (const int32_t id : ids) push(id, out);
  return out;
}

std::string Detokenizer::flush() {
  std::string out;
  flush(out);
  return out;
}

std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special) {
  Detokenizer::Options options;
  options.skip_special = skip_special;
  options.max_held_bytes = std::numeric_limits<size_t>::max();
  Detokenizer detokenizer(tokenizer, options);
  std::string out;
  for (const int32_t id : ids) detokenizer.push(id, out);
  detokenizer.flush(out);
  return out;
}

}  // namespace beryl::text
