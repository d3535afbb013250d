// What may come over a worker's second connection.
#include "parallel/wire/validate_bulk.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "parallel/wire/framing.h"
#include "parallel/wire/limits.h"
#include "tests/parallel/wire/sample_messages.h"

namespace beryl::wire {
namespace {

// 2 x 3 soft tokens, 54 patches.
Picture sample_picture() {
  Picture picture;
  picture.set_epoch(sample_limits().epoch);
  picture.mutable_key()->set_high(1);
  picture.set_height(96);
  picture.set_width(144);
  picture.set_pixels(std::string(96 * 144 * 3, 'x'));
  return picture;
}

GroupLimits picture_limits() {
  GroupLimits limits = sample_limits();
  limits.cache.set_max_picture_patches(54);
  return limits;
}

TEST(WireValidateBulkTest, AcceptsAPicture) {
  EXPECT_TRUE(validate(sample_picture(), picture_limits()));
}

TEST(WireValidateBulkTest, RefusesPicturesThatAreNone) {
  const std::vector<std::pair<const char*, std::function<void(Picture&)>>> damages = {
      {"epoch", [](auto& p) { p.set_epoch(p.epoch() + 1); }},
      {"no height", [](auto& p) { p.set_height(0), p.clear_pixels(); }},
      {"no width", [](auto& p) { p.set_width(0), p.clear_pixels(); }},
      {"height", [](auto& p) { p.set_height(95), p.set_pixels(std::string(95 * 144 * 3, 'x')); }},
      {"width", [](auto& p) { p.set_width(160), p.set_pixels(std::string(96 * 160 * 3, 'x')); }},
      {"too large",
       [](auto& p) { p.set_width(192), p.set_pixels(std::string(96 * 192 * 3, 'x')); }},
      {"a byte less", [](auto& p) { p.mutable_pixels()->pop_back(); }},
      {"a byte more", [](auto& p) { p.mutable_pixels()->push_back('x'); }},
      {"no pixels", [](auto& p) { p.clear_pixels(); }},
      // Products that are 0 in 32 bits.
      {"huge", [](auto& p) { p.set_height(48U << 26), p.set_width(48U << 26), p.clear_pixels(); }},
  };
  for (const auto& [name, damage] : damages) {
    Picture picture = sample_picture();
    damage(picture);
    EXPECT_FALSE(validate(picture, picture_limits())) << name;
  }
}

TEST(WireValidateBulkTest, RefusesRegistrationsThatNameNobody) {
  BulkRegistration good;
  good.set_launch_id("launch");
  EXPECT_TRUE(validate(good));
  BulkRegistration bad = good;
  bad.clear_launch_id();
  EXPECT_FALSE(validate(bad));
  bad.set_launch_id("a\nb");
  EXPECT_FALSE(validate(bad));
  bad.set_launch_id(std::string(kMaxNameBytes + 1, 'x'));
  EXPECT_FALSE(validate(bad));
  bad = good;
  bad.set_rank(kMaxRanks);
  EXPECT_FALSE(validate(bad));
  bad = good;
  bad.set_group(kMaxGroups);
  EXPECT_FALSE(validate(bad));
}

TEST(WireValidateBulkTest, TheLargestPictureFitsItsFrame) {
  Frame frame;
  Picture& picture = *frame.mutable_picture();
  picture.set_epoch(~uint64_t{0});
  picture.mutable_key()->set_high(~uint64_t{0});
  picture.mutable_key()->set_low(~uint64_t{0});
  picture.set_height(~uint32_t{0});
  picture.set_width(~uint32_t{0});
  picture.set_pixels(std::string(size_t{kMaxPicturePatches} * kPatchBytes, 'x'));
  EXPECT_TRUE(encode_frame(frame, kMaxPictureFrameBytes));
}

}  // namespace
}  // namespace beryl::wire
