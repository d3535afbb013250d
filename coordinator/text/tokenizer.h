// Byte-pair tokenizer read from a Hugging Face `tokenizer.json` (BPE with byte fallback, spaces
// written as U+2581, no pre-tokenisation that can fire). Ids equal those of the Hugging Face
// `tokenizers` library. Immutable after load(); all const methods are safe from many threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::text {

// Longer texts are refused: 32 bytes for each token of a full context. A text of one repeated
// letter takes about 36 bytes of memory per byte while it is merged.
constexpr size_t kMaxEncodeBytes = size_t{8} << 20;

class Tokenizer {
 public:
  // Reads and checks the whole file. An error names the file and the first problem in one line.
  static base::Expected<std::unique_ptr<Tokenizer>> load(const std::string& path);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Ids of plain text; adds no BOS. Never yields an added (control) token: "<|turn>" typed by a
  // user becomes ordinary pieces. kInvalidArgument where `utf8` is not valid UTF-8.
  base::Expected<std::vector<int32_t>> encode(std::string_view utf8) const;

  // The same, but strings of added tokens become these tokens, as Hugging Face does by default.
  // For trusted text only.
  base::Expected<std::vector<int32_t>> encode_with_special(std::string_view utf8) const;

  // One more than the largest id.
  int32_t vocab_size() const noexcept;

  // The piece as written in the file, e.g. "▁hello" or "<0x0A>". Empty for ids that do not exist.
  std::string_view token_text(int32_t id) const noexcept;

  // The bytes that the id stands for: U+2581 is a space, "<0x0A>" is one byte. Not always UTF-8.
  std::string_view token_bytes(int32_t id) const noexcept;

  // Is it a single byte ("<0x0A>")?
  bool is_byte_token(int32_t id) const noexcept;

  bool exists(int32_t id) const noexcept;
  // Is it an added token marked `special` (control tokens)?
  bool is_special(int32_t id) const noexcept;
  // Id of the added token with exactly this text, e.g. "<|turn>".
  std::optional<int32_t> special_id(std::string_view text) const;

  struct Tables;  // the parsed file; see tokenizer_tables.h

 private:
  explicit Tokenizer(std::unique_ptr<Tables> tables);

  std::unique_ptr<Tables> tables_;
};

}  // namespace beryl::text
