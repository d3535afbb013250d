// Every form of every format gives back the pixels that went in.
#include "coordinator/media/image_decoder.h"

#include <gtest/gtest.h>

#include "coordinator/media/format_decoders.h"
#include "coordinator/media/orientation.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/pictures.h"

namespace beryl::media {
namespace {

const ImageLimits kLimits;

// Smooth, so that JPEG keeps it well; sides that are no multiples of 8.
RgbImage smooth_picture(uint32_t width = 61, uint32_t height = 43) {
  RgbImage image{width, height, {}};
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(x * 255 / width));
      image.pixels.push_back(static_cast<uint8_t>(y * 255 / height));
      image.pixels.push_back(static_cast<uint8_t>((x + y) * 255 / (width + height)));
    }
  }
  return image;
}

RgbImage grey_of(RgbImage image) {
  for (size_t i = 0; i < image.pixels.size(); i += kNumChannels) {
    image.pixels[i + 1] = image.pixels[i + 2] = image.pixels[i];
  }
  return image;
}

int error_of(const std::string& bytes, const RgbImage& expected) {
  const auto decoded = decode_image(bytes, kLimits);
  EXPECT_TRUE(decoded) << decoded.error().message;
  return decoded ? max_difference(*decoded, expected) : 256;
}

TEST(ImageDecoderTest, ReadsJpeg) {
  const RgbImage picture = smooth_picture();
  EXPECT_LE(error_of(encode_jpeg(picture), picture), 12);
  EXPECT_LE(error_of(encode_jpeg(picture, {.progressive = true}), picture), 12);
  EXPECT_LE(error_of(encode_jpeg(picture, {.grey = true}), grey_of(picture)), 6);
  EXPECT_LE(error_of(encode_jpeg(picture, {.quality = 100, .cmyk = true}), picture), 8);
}

TEST(ImageDecoderTest, ReadsPng) {
  const RgbImage picture = golden_picture(61, 43);
  for (const bool interlaced : {false, true}) {
    EXPECT_EQ(error_of(encode_png(picture, {.interlaced = interlaced}), picture), 0);
    EXPECT_EQ(error_of(encode_png(picture, {.kind = PngKind::kGrey, .interlaced = interlaced}),
                       grey_of(picture)),
              0);
    EXPECT_EQ(error_of(encode_png(picture, {.kind = PngKind::kPalette, .interlaced = interlaced}),
                       web_colors(picture)),
              0);
    EXPECT_EQ(
        error_of(encode_png(picture, {.kind = PngKind::kRgb16, .interlaced = interlaced}), picture),
        0);
    RgbImage bits = grey_of(picture);
    for (uint8_t& value : bits.pixels) value = value >= 128 ? 255 : 0;
    EXPECT_EQ(
        error_of(encode_png(picture, {.kind = PngKind::kGrey1, .interlaced = interlaced}), bits),
        0);
  }
}

TEST(ImageDecoderTest, ReadsGif) {
  const RgbImage picture = golden_picture(61, 43);
  EXPECT_EQ(error_of(encode_gif(picture), web_colors(picture)), 0);
  EXPECT_EQ(error_of(encode_gif(picture, {.interlaced = true}), web_colors(picture)), 0);
}

TEST(ImageDecoderTest, LeavesTheCanvasOfAGifWhite) {
  const auto decoded = decode_image(encode_gif(golden_picture(20, 10), {.left = 7}), kLimits);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->width, 27U);
  EXPECT_EQ(decoded->pixels[0], 255);
  // The first pixel of the frame is black: index 0.
  EXPECT_EQ(decoded->pixels[7 * kNumChannels], 0);
  const auto transparent =
      decode_image(encode_gif(golden_picture(20, 10), {.transparent_color = 0}), kLimits);
  ASSERT_TRUE(transparent);
  EXPECT_EQ(transparent->pixels[0], 255);
}

TEST(ImageDecoderTest, PutsTransparencyOverWhite) {
  RgbImage picture{2, 1, {0, 100, 255, 10, 20, 30}};
  const RgbImage half{2, 1, {127, 177, 255, 132, 137, 142}};  // round(c * 128/255 + 127)
  EXPECT_EQ(error_of(encode_png(picture, {.kind = PngKind::kRgba, .alpha = 128}), half), 0);
  const RgbImage white{2, 1, {255, 255, 255, 255, 255, 255}};
  EXPECT_EQ(error_of(encode_png(picture, {.kind = PngKind::kRgba, .alpha = 0}), white), 0);
  const RgbImage black{1, 1, {0, 0, 0}};  // palette entry 0
  const RgbImage grey{1, 1, {204, 204, 204}};
  EXPECT_EQ(error_of(encode_png(black, {.kind = PngKind::kPalette, .alpha = 51}), grey), 0);
}

#ifdef BERYL_WEBP
TEST(ImageDecoderTest, ReadsWebp) {
  const RgbImage picture = golden_picture(61, 43);
  EXPECT_EQ(error_of(encode_webp(picture), picture), 0);
  EXPECT_EQ(error_of(encode_animated_webp(picture), picture), 0);
  const RgbImage white{3, 3, std::vector<uint8_t>(27, 255)};
  EXPECT_EQ(error_of(encode_webp(golden_picture(3, 3), 0), white), 0);
}
#endif

TEST(ImageDecoderTest, TurnsAsExifSays) {
  // Red, green / blue, white.
  const RgbImage upright{2, 2, {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255}};
  const auto corner = [](const RgbImage& image) {  // what is at the top left and top right
    return std::vector<uint8_t>(image.pixels.begin(), image.pixels.begin() + 6);
  };
  const std::vector<uint8_t> r = {255, 0, 0}, g = {0, 255, 0}, b = {0, 0, 255}, w = {255, 255, 255};
  const std::vector<uint8_t>* const expected[8][2] = {{&r, &g}, {&g, &r}, {&w, &b}, {&b, &w},
                                                      {&r, &b}, {&b, &r}, {&w, &g}, {&g, &w}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool big_endian : {false, true}) {
      const std::string exif = exif_block(orientation, big_endian);
      EXPECT_EQ(exif_orientation(exif), orientation);
      const auto decoded = decode_image(encode_png(upright, {.exif = exif}), kLimits);
      ASSERT_TRUE(decoded);
      std::vector<uint8_t> top = *expected[orientation - 1][0];
      const std::vector<uint8_t>& right = *expected[orientation - 1][1];
      top.insert(top.end(), right.begin(), right.end());
      EXPECT_EQ(corner(*decoded), top) << orientation;
    }
  }
  const std::string exif = std::string("Exif\0\0", 6) + exif_block(6, true);
  const auto turned = decode_image(encode_jpeg(smooth_picture(64, 32), {.exif = exif}), kLimits);
  ASSERT_TRUE(turned);
  EXPECT_EQ(turned->width, 32U);
  EXPECT_EQ(turned->height, 64U);
}

TEST(ImageDecoderTest, TakesDamagedExifAsUpright) {
  const std::string whole = exif_block(6, false);
  for (size_t size = 0; size < whole.size() - 6; ++size) {
    EXPECT_EQ(exif_orientation(whole.substr(0, size)), 1) << size;
  }
  std::string far_away = whole;
  far_away[4] = far_away[5] = far_away[6] = far_away[7] = '\xff';
  EXPECT_EQ(exif_orientation(far_away), 1);
  EXPECT_EQ(exif_orientation(exif_block(9, true)), 1);
}

}  // namespace
}  // namespace beryl::media
