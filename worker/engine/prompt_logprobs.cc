#include "worker/engine/prompt_logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace beryl::engine {

std::optional<wire::Token> token_logprob(std::span<const float> logits, int32_t token_id,
                                         int num_top) {
  float largest = logits[0];
  bool has_nan = false;
  for (const float logit : logits) {
    has_nan = has_nan || std::isnan(logit);
    largest = std::max(largest, logit);
  }
  if (has_nan || std::isinf(largest)) return std::nullopt;
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit - largest));
  const double log_sum = std::log(sum) + largest;

  wire::Token token;
  token.set_token_id(static_cast<uint32_t>(token_id));
  token.set_logprob(static_cast<float>(logits[static_cast<size_t>(token_id)] - log_sum));
  if (num_top <= 0) return token;
  const auto num_kept = std::min(static_cast<size_t>(num_top), logits.size());
  std::vector<uint32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0U);
  const auto end = ids.begin() + static_cast<std::ptrdiff_t>(num_kept);
  std::partial_sort(ids.begin(), end, ids.end(), [&](uint32_t a, uint32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (auto id = ids.begin(); id != end; ++id) {
    token.add_top_token_ids(*id);
    token.add_top_logprobs(static_cast<float>(logits[*id] - log_sum));
  }
  return token;
}

}  // namespace beryl::engine
