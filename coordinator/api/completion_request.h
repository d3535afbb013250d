// POST /v1/completions: from JSON to a typed request.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/api/generation_fields.h"

namespace beryl::api {

// Text, or token ids (checked against the vocabulary).
using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  GenerationFields fields;
  std::vector<Prompt> prompts;  // never empty
  bool echo = false;
  bool add_special_tokens = true;  // <bos> in front of text prompts
};

base::Expected<CompletionRequest> parse_completion_request(const Json& body,
                                                           const FieldContext& context);

// One list of token ids below `vocab_size`, not empty.
base::Expected<std::vector<int32_t>> parse_token_list(const Json& list, const std::string& path,
                                                      uint32_t vocab_size);

}  // namespace beryl::api
