// Damaged files of every format: whatever the bytes are, the decoder answers with pixels or one
// line and nothing else happens. Useful mainly under the sanitizers. Seeds are fixed, so a failure
// repeats.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "coordinator/media/image_decoder.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/mutation.h"
#include "tests/coordinator/media/pictures.h"

namespace beryl::media {
namespace {

// Claims are kept small, so that a run takes microseconds.
const ImageLimits kSmallLimits{.max_image_side = 512, .max_image_pixels = 65'536};

std::vector<std::string> sample_files() {
  const RgbImage picture = golden_picture(23, 17);
  std::vector<std::string> files = {
      encode_jpeg(picture),
      encode_jpeg(picture, {.progressive = true}),
      encode_jpeg(picture,
                  {.cmyk = true, .exif = std::string("Exif\0\0", 6) + exif_block(5, true)}),
      encode_png(picture),
      encode_png(picture, {.kind = PngKind::kPalette, .interlaced = true, .alpha = 9}),
      encode_png(picture, {.kind = PngKind::kRgba, .alpha = 77, .exif = exif_block(8, false)}),
      encode_png(picture, {.kind = PngKind::kGrey1}),
      encode_gif(picture, {.interlaced = true, .transparent_color = 3}),
      encode_gif(picture, {.left = 5}),
  };
#ifdef BERYL_WEBP
  files.push_back(encode_webp(picture, 200));
  files.push_back(encode_animated_webp(picture));
#endif
  return files;
}

TEST(DecoderMutationTest, DamagedFilesNeverDoMoreThanFail) {
  const std::vector<std::string> files = sample_files();
  std::mt19937_64 random(20'261'124);
  size_t num_accepted = 0;
  const size_t num_runs = num_mutation_runs(40'000);
  for (size_t run = 0; run < num_runs; ++run) {
    std::string file = files[random() % files.size()];
    mutate(file, random);
    const auto decoded = decode_image(file, kSmallLimits);
    if (!decoded) {
      ASSERT_FALSE(decoded.error().message.empty());
      continue;
    }
    ++num_accepted;
    ASSERT_LE(uint64_t{decoded->width} * decoded->height, kSmallLimits.max_image_pixels);
    ASSERT_EQ(decoded->pixels.size(), size_t{decoded->width} * decoded->height * kNumChannels);
  }
  // Damage to pixels is harmless; damage to structure must be refused.
  EXPECT_GT(num_accepted, num_runs / 20);
  EXPECT_LT(num_accepted, num_runs * 19 / 20);
}

}  // namespace
}  // namespace beryl::media
