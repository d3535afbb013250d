// Byte-pair merging of text to ids.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "coordinator/text/tokenizer_tables.h"

namespace beryl::text {

// Appends to `out` the ids of `text`: valid UTF-8 in which spaces are already U+2581.
void encode_pieces(const Tokenizer::Tables& tables, std::string_view text,
                   std::vector<int32_t>& out);

}  // namespace beryl::text
