#include "coordinator/cluster/prompt_pictures.h"

#include <fmt/format.h>

#include <algorithm>

#include "parallel/base/assert.h"
#include "parallel/wire/limits.h"

namespace beryl::cluster {
namespace {

uint64_t big_endian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof value; ++i) value = (value << 8) | bytes[i];
  return value;
}

}  // namespace

scheduler::PictureKey to_key(const media::ContentHash& hash) {
  static_assert(sizeof(media::ContentHash) == 2 * sizeof(uint64_t));
  return {.high = big_endian(hash.data()), .low = big_endian(hash.data() + sizeof(uint64_t))};
}

std::vector<scheduler::PictureSpan> to_spans(const std::vector<media::PlacedImage>& pictures) {
  std::vector<scheduler::PictureSpan> spans;
  spans.reserve(pictures.size());
  for (const media::PlacedImage& picture : pictures) {
    spans.push_back({.key = to_key(picture.image->hash),
                     .start = static_cast<uint32_t>(picture.first_soft_token),
                     .num_tokens = picture.image->num_soft_tokens(),
                     .num_patches = picture.image->num_patches()});
  }
  return spans;
}

uint32_t max_picture_tokens(const wire::CacheFacts& cache) {
  return std::min({cache.max_picture_patches() / wire::kPatchesPerSoftToken,
                   cache.num_feature_tokens(), cache.max_num_batched_tokens()});
}

base::Status check_pictures(const std::vector<media::PlacedImage>& pictures,
                            const wire::CacheFacts& cache) {
  static_assert(media::kCellSize == wire::kSoftTokenSize);
  if (pictures.empty()) return base::Status::ok();
  const uint32_t limit = max_picture_tokens(cache);
  if (limit == 0) {
    return base::Error{base::ErrorCode::kInvalidArgument, "this model takes no pictures",
                       "messages", "pictures_not_supported"};
  }
  for (const media::PlacedImage& picture : pictures) {
    BERYL_ASSERT(picture.image != nullptr, "a picture without pixels at {}",
                 picture.first_soft_token);
    const uint32_t num_tokens = picture.image->num_soft_tokens();
    if (num_tokens <= limit) continue;
    return base::Error{
        base::ErrorCode::kInvalidArgument,
        fmt::format("a picture of {} soft tokens, this server takes up to {}", num_tokens, limit),
        "messages", "picture_too_large"};
  }
  return base::Status::ok();
}

}  // namespace beryl::cluster
