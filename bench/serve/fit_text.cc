#include "bench/serve/fit_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace beryl::load {
namespace {

constexpr int kMinLetters = 2;
constexpr int kMaxLetters = 7;
// So few tokens are added as words of one letter, which are one token in nearly every vocabulary.
constexpr int64_t kFewTokens = 4;

std::string random_word(std::mt19937_64& random) {
  std::string word(kMinLetters + random() % (kMaxLetters - kMinLetters + 1), 'a');
  for (char& letter : word) letter = static_cast<char>('a' + random() % 26);
  return word;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    text += word;
  }
  return text;
}

void change_by(std::mt19937_64& random, int64_t num_tokens, double tokens_per_word,
               std::vector<std::string>& words) {
  if (num_tokens > 0 && num_tokens <= kFewTokens) {
    words.insert(words.end(), static_cast<size_t>(num_tokens), std::string("a"));
    return;
  }
  const auto magnitude = static_cast<double>(num_tokens < 0 ? -num_tokens : num_tokens);
  const auto num_words = std::max<size_t>(1, static_cast<size_t>(magnitude / tokens_per_word));
  if (num_tokens < 0) {
    words.resize(words.size() - std::min(words.size() - 1, num_words));
    return;
  }
  for (size_t i = 0; i < num_words; ++i) words.push_back(random_word(random));
}

}  // namespace

std::string random_words(std::mt19937_64& random, int num_words) {
  std::vector<std::string> words;
  for (int i = 0; i < num_words; ++i) words.push_back(random_word(random));
  return joined(words);
}

base::Expected<std::string> fit_text(std::mt19937_64& random, int64_t num_tokens,
                                     const TokenCounter& count) {
  std::vector<std::string> words = {random_word(random)};
  const int64_t shortest = count("a");
  if (shortest < 0) return base::invalid_argument("tokenize", "the prompt cannot be counted");
  if (shortest > num_tokens) {
    return base::invalid_argument(
        "--random-input-len",
        fmt::format("{} tokens asked for, but a prompt of one letter has {} already", num_tokens,
                    shortest));
  }
  if (shortest == num_tokens) return std::string("a");
  double tokens_per_word = 3;
  for (int attempt = 0; attempt < kMaxFitAttempts; ++attempt) {
    std::string text = joined(words);
    const int64_t counted = count(text);
    if (counted < 0) return base::invalid_argument("tokenize", "the prompt cannot be counted");
    if (counted == num_tokens) return text;
    tokens_per_word = std::max(
        1.0, static_cast<double>(counted - shortest + 1) / static_cast<double>(words.size()));
    if (words.size() == 1 && counted > num_tokens) {
      words = {std::string(1, static_cast<char>('a' + random() % 26))};
    } else {
      change_by(random, num_tokens - counted, tokens_per_word, words);
    }
  }
  return base::invalid_argument(
      "--random-input-len",
      fmt::format("no text of {} tokens in {} attempts", num_tokens, kMaxFitAttempts));
}

}  // namespace beryl::load
