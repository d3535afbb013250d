// Random text of an exact number of tokens, by asking whoever counts them.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "parallel/base/expected.h"

namespace beryl::load {

// Tokens of a whole prompt with this text; negative: nobody can tell.
using TokenCounter = std::function<int64_t(const std::string& text)>;

constexpr int kMaxFitAttempts = 40;

// Words of random letters, with a space before each but the first.
std::string random_words(std::mt19937_64& random, int num_words);

// A text whose prompt has num_tokens tokens. An error where the counter fails, or the prompt cannot
// be that short, or no text was found in kMaxFitAttempts.
base::Expected<std::string> fit_text(std::mt19937_64& random, int64_t num_tokens,
                                     const TokenCounter& count);

}  // namespace beryl::load
