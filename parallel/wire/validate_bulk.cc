#include "parallel/wire/validate_bulk.h"

#include <fmt/format.h>

#include <utility>

#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

constexpr uint64_t kChannels = 3;

base::Error bad(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "message", {}};
}

}  // namespace

base::Status validate(const BulkRegistration& registration) {
  const std::string& launch_id = registration.launch_id();
  if (launch_id.empty() || launch_id.size() > kMaxNameBytes ||
      clean_reason(launch_id) != launch_id) {
    return bad(fmt::format("launch_id has {} bytes or is not printable", launch_id.size()));
  }
  if (registration.group() >= kMaxGroups) {
    return bad(fmt::format("group {}, the end is {}", registration.group(), kMaxGroups));
  }
  if (registration.rank() >= kMaxRanks) {
    return bad(fmt::format("rank {}, the end is {}", registration.rank(), kMaxRanks));
  }
  return base::Status::ok();
}

base::Status validate(const Picture& picture, const GroupLimits& limits) {
  if (picture.epoch() != limits.epoch) {
    return bad(fmt::format("picture of epoch {}, this is {}", picture.epoch(), limits.epoch));
  }
  const uint64_t height = picture.height();
  const uint64_t width = picture.width();
  if (height == 0 || width == 0 || height % kSoftTokenSize != 0 || width % kSoftTokenSize != 0) {
    return bad(fmt::format("picture of {} x {} pixels, sides must be multiples of {}", width,
                           height, kSoftTokenSize));
  }
  // In 64 bits: both sides are below 2^32.
  const uint64_t num_tokens = (height / kSoftTokenSize) * (width / kSoftTokenSize);
  if (num_tokens > limits.cache.max_picture_patches() / kPatchesPerSoftToken) {
    return bad(fmt::format("picture of {} patches, the limit is {}",
                           num_tokens * kPatchesPerSoftToken, limits.cache.max_picture_patches()));
  }
  if (picture.pixels().size() != height * width * kChannels) {
    return bad(fmt::format("picture of {} x {} pixels with {} bytes, {} are needed", width, height,
                           picture.pixels().size(), height * width * kChannels));
  }
  return base::Status::ok();
}

}  // namespace beryl::wire
