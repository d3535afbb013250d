#include "worker/model/repeatable_step.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace beryl::model {
namespace {

constexpr uint32_t kSmallestBucket = 256;
constexpr uint32_t kBucketsOfDoubling = 4;

}  // namespace

bool is_repeatable(const kernels::BatchView& rows) {
  return rows.num_rows > 0 && rows.num_rows <= kMaxRepeatableRows && rows.max_segment_rows == 1 &&
         rows.num_segments == rows.num_rows;
}

int32_t last_of_bucket(int32_t position) {
  const auto p = static_cast<uint32_t>(position);
  const uint32_t size = std::max(kSmallestBucket, std::bit_floor(p) / kBucketsOfDoubling);
  const uint32_t last = p / size * size + size - 1;
  return static_cast<int32_t>(
      std::min(last, static_cast<uint32_t>(std::numeric_limits<int32_t>::max() - 1)));
}

}  // namespace beryl::model
