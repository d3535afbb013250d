// Reads and checks a tokenizer.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "coordinator/text/tokenizer_tables.h"
#include "parallel/base/expected.h"

namespace beryl::text {

constexpr uintmax_t kMaxTokenizerFileBytes = uintmax_t{256} << 20;
constexpr int32_t kMaxVocabSize = 1 << 20;
constexpr size_t kMaxPieceBytes = 1024;

base::Expected<std::unique_ptr<Tokenizer::Tables>> load_tokenizer_tables(const std::string& path);

}  // namespace beryl::text
