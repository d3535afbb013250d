// Collects a prompt: text and control tokens. Neighbouring texts are joined before they are
// encoded, so that the ids are those of the whole text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/text/tokenizer.h"
#include "parallel/base/expected.h"

namespace beryl::text {

class PromptWriter {
 public:
  explicit PromptWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void text(std::string_view text) { pending_ += text; }

  void control(int32_t id) {
    flush();
    ids_.push_back(id);
  }

  // Index of the id that the next control() writes.
  size_t next_position() {
    flush();
    return ids_.size();
  }

  // All ids, or the first error of encoding. Call once, at the end.
  base::Expected<std::vector<int32_t>> take_ids() {
    flush();
    if (!status_) return status_.error();
    return std::move(ids_);
  }

 private:
  void flush() {
    if (pending_.empty()) return;
    const auto ids = tokenizer_.encode(pending_);
    pending_.clear();
    if (ids) {
      ids_.insert(ids_.end(), ids->begin(), ids->end());
    } else if (status_) {
      status_ = ids.error();
    }
  }

  const Tokenizer& tokenizer_;
  std::string pending_;
  std::vector<int32_t> ids_;
  base::Status status_;
};

}  // namespace beryl::text
