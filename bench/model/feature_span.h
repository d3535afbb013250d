// A picture in a prompt: soft tokens that take features, see each other and are never cut.
#pragma once

#include <algorithm>
#include <span>

#include "kernels/tensor.h"

namespace beryl::bench {

struct FeatureSpan {
  int first = 0;                 // position of the first soft token
  kernels::TensorView features;  // [number of soft tokens, H]

  int end() const { return first + static_cast<int>(features.shape[0]); }
};

// Where the chunk that starts at `begin` ends: after `size` tokens, earlier so as not to cut a
// span, later only where a span that starts at `begin` is longer. Spans ascend.
inline int chunk_end(int begin, int size, int num_tokens, std::span<const FeatureSpan> spans) {
  const int end = std::min(begin + size, num_tokens);
  for (const FeatureSpan& span : spans) {
    if (span.first < end && end < span.end()) return span.first > begin ? span.first : span.end();
  }
  return end;
}

// Tokens of the longest span.
inline int longest_span(std::span<const FeatureSpan> spans) {
  int longest = 0;
  for (const FeatureSpan& span : spans) longest = std::max(longest, span.end() - span.first);
  return longest;
}

}  // namespace beryl::bench
