// Resized pixels against recorded ones, bit for bit, and against a plain double-precision filter.
#include "coordinator/media/resize.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/media/filter_taps.h"
#include "tests/coordinator/media/pictures.h"

namespace beryl::media {
namespace {

TEST(ResizeTest, EqualsEveryRecordedPictureBitForBit) {
  const auto golden = nlohmann::json::parse(recorded_file("golden.json"));
  size_t num_pictures = 0;
  for (const auto& row : golden["sizes"]) {
    if (!row.contains("file")) continue;
    const std::string name = row["file"];
    const RgbImage resized = resize_bicubic(golden_picture(row["width"], row["height"]),
                                            {row["to_width"], row["to_height"]});
    EXPECT_EQ(max_difference(resized, recorded_picture(name)), 0) << name;
    ++num_pictures;
  }
  EXPECT_EQ(num_pictures, 8U);
}

// The control: the comparison above sees one level of one pixel, and a half-pixel shift.
TEST(ResizeTest, ComparisonSeesSmallFaults) {
  const RgbImage recorded = recorded_picture("640x480_70.png");
  RgbImage damaged = recorded;
  damaged.pixels[damaged.pixels.size() / 2] ^= 1;
  EXPECT_EQ(max_difference(damaged, recorded), 1);
  const RgbImage other = resize_bicubic(golden_picture(641, 480), {432, 336});
  EXPECT_GT(max_difference(other, recorded), 1);
}

TEST(ResizeTest, LeavesAnUnchangedSizeAlone) {
  const RgbImage picture = golden_picture(96, 48);
  EXPECT_EQ(max_difference(resize_bicubic(picture, {96, 48}), picture), 0);
  // One side only: the other must not be filtered.
  const RgbImage wide = resize_bicubic(picture, {192, 48});
  EXPECT_EQ(wide.width, 192U);
  EXPECT_EQ(wide.height, 48U);
}

TEST(ResizeTest, KeepsAFlatColourAtAnySize) {
  for (const PixelSize from : {PixelSize{1, 1}, PixelSize{1, 333}, PixelSize{777, 2}}) {
    RgbImage flat{from.width, from.height, {}};
    for (uint32_t i = 0; i < from.width * from.height; ++i) {
      flat.pixels.insert(flat.pixels.end(), {0, 129, 255});
    }
    const RgbImage resized = resize_bicubic(flat, {96, 144});
    for (size_t i = 0; i < resized.pixels.size(); i += kNumChannels) {
      ASSERT_EQ(resized.pixels[i], 0);
      ASSERT_EQ(resized.pixels[i + 1], 129);
      ASSERT_EQ(resized.pixels[i + 2], 255);
    }
  }
}

TEST(FilterTapsTest, StaysInsideThePictureAndSumsToOne) {
  for (const auto& [in, out] :
       {std::pair{1U, 384U}, {5000U, 48U}, {48U, 5000U}, {1920U, 1056U}, {7U, 7U}, {32768U, 48U}}) {
    const FilterTaps taps = make_bicubic_taps(in, out);
    for (uint32_t o = 0; o < out; ++o) {
      ASSERT_GE(taps.count[o], 1U);
      ASSERT_LE(taps.count[o], taps.max_count);
      ASSERT_LE(taps.first[o] + taps.count[o], in);
      int64_t sum = 0;
      int64_t magnitude = 0;
      for (uint32_t t = 0; t < taps.count[o]; ++t) {
        sum += taps.weights_of(o)[t];
        magnitude += std::abs(taps.weights_of(o)[t]);
      }
      const int64_t unit = int64_t{1} << taps.precision;
      ASSERT_LE(std::abs(sum - unit), taps.count[o]) << in << " to " << out;
      ASSERT_LE(magnitude * 255 + unit / 2, INT32_MAX) << "sums overflow";
    }
  }
}

}  // namespace
}  // namespace beryl::media
