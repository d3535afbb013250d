// Log-probabilities of given tokens, for `prompt_logprobs`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "parallel/wire/cluster.pb.h"

namespace beryl::engine {

// Of `token_id` under one row of logits in host memory, with the num_top most likely tokens (ties:
// smaller id). Nothing when the logits hold a NaN.
std::optional<wire::Token> token_logprob(std::span<const float> logits, int32_t token_id,
                                         int num_top);

}  // namespace beryl::engine
