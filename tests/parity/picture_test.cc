// Pictures of references, and what a comparison says about them.
#include "bench/parity/picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/parity/case_pictures.h"

namespace beryl::bench {
namespace {

using testing::AllOf;
using testing::HasSubstr;

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";

std::string load_error(const std::string& file) {
  try {
    load_png(file);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "no error";
}

TEST(PictureTest, ReadsAndResizesAFile) {
  const media::RgbImage picture = load_png(kTiny + "/image1.png");
  EXPECT_EQ(picture.width, 53u);
  EXPECT_EQ(picture.height, 97u);
  const media::RgbImage resized = load_resized_png(kTiny + "/image1.png", 70);
  EXPECT_EQ(resized.width, 288u);
  EXPECT_EQ(resized.height, 528u);
  EXPECT_EQ(resized.pixels.size(), size_t{3} * 288 * 528);
  EXPECT_THROW(load_resized_png(kTiny + "/image1.png", 71), std::runtime_error);
}

TEST(PictureTest, BadFilesAreNamed) {
  EXPECT_THAT(load_error("/nonexistent.png"),
              AllOf(HasSubstr("/nonexistent.png: expected an 8-bit"), Not(HasSubstr("\n"))));
  EXPECT_THAT(load_error(kTiny + "/config.json"), HasSubstr("config.json: expected"));
  const std::string cut = std::filesystem::temp_directory_path() /
                          ("beryl_picture_" + std::to_string(::getpid()) + ".png");
  std::filesystem::copy_file(kTiny + "/image1.png", cut,
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::resize_file(cut, 5000);
  EXPECT_THAT(load_error(cut), HasSubstr("expected an 8-bit RGB PNG file, found"));
  std::filesystem::remove(cut);
}

TEST(PictureTest, FormulasDrawTheSamePictureEverywhere) {
  const media::RgbImage picture = draw_picture(50, 100);
  const uint8_t* pixel = picture.pixels.data() + 3 * (30 * 100 + 25);
  EXPECT_EQ(pixel[0], 63);              // 25 * 255 / 100
  EXPECT_EQ(pixel[1], 153);             // 30 * 255 / 50
  EXPECT_EQ(pixel[2], (30 * 25) % 64);  // 25 / 24 + 30 / 24 is even
  EXPECT_EQ(picture.pixels[3 * 25 + 2], 160);
}

class CasePicturesTest : public testing::Test {
 protected:
  ReferenceCase one_picture(std::vector<int32_t> ids) const {
    ReferenceCase reference;
    reference.name = "made";
    reference.has_media = true;
    reference.input_ids = std::move(ids);
    reference.pictures = {draw_picture(48, 96)};
    return reference;
  }
  model::ModelConfig config_ = model::load_model_config(kTiny + "/config.json");
};

TEST_F(CasePicturesTest, ARunOfPlaceholdersStandsForAPicture) {
  const auto spans = find_spans(one_picture({2, 17, 19, 19, 21, 4}), config_);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].first, 2);
  EXPECT_EQ(spans[0].end(), 4);
}

TEST_F(CasePicturesTest, ARunOfAnotherLengthIsAnError) {
  for (const std::vector<int32_t>& ids :
       {std::vector<int32_t>{2, 17, 19, 21}, {2, 17, 19, 19, 19, 21}, {2, 3}}) {
    EXPECT_THROW(find_spans(one_picture(ids), config_), std::runtime_error);
  }
}

TEST_F(CasePicturesTest, ChunksEndAtTheBordersOfPictures) {
  const FeatureSpan span = {4, {nullptr, kernels::DType::kFloat32, {6, 1}}};  // [4, 10)
  const std::vector<FeatureSpan> spans = {span};
  EXPECT_EQ(chunk_end(0, 3, 20, spans), 3);
  EXPECT_EQ(chunk_end(0, 7, 20, spans), 4);   // not into it
  EXPECT_EQ(chunk_end(4, 3, 20, spans), 10);  // as long as it needs
  EXPECT_EQ(chunk_end(0, 10, 20, spans), 10);
  EXPECT_EQ(chunk_end(10, 30, 20, spans), 20);
}

// A comparison without limits that fail otherwise: only patches and features count.
class ComparisonTest : public CasePicturesTest {
 protected:
  bool passes(const std::vector<float>& features, const std::vector<float>& patches,
              const std::vector<int32_t>& positions) const {
    ReferenceCase reference;
    reference.has_media = true;
    reference.feature_stride = 2;
    reference.features.assign(2 * 128, 0.5f);
    reference.patches = {0.0f, 0.25f, 1.0f};
    reference.patch_positions = {3, 1};
    Comparison comparison(reference, config_);
    comparison.add_features(features);
    comparison.add_patches(patches);
    comparison.add_patch_positions(positions);
    return comparison.passed({});
  }
  // Three rows, of which the first and the last are compared.
  std::vector<float> features_ = std::vector<float>(3 * 128, 0.5f);
  std::vector<float> patches_ = {-1.0f, -0.5f, 1.0f};
};

TEST_F(ComparisonTest, SeesFeaturesPatchesAndPositions) {
  EXPECT_TRUE(passes(features_, patches_, {3, 1}));
  EXPECT_FALSE(passes(features_, patches_, {1, 3}));
  EXPECT_FALSE(passes(features_, {-1.0f, -0.5f, 0.9999f}, {3, 1}));
  EXPECT_FALSE(passes(features_, {-1.0f, -0.5f}, {3, 1}));
  std::vector<float> changed = features_;
  changed[128] = 9;  // not recorded
  EXPECT_TRUE(passes(changed, patches_, {3, 1}));
  changed[2 * 128 + 127] += 2e-3f;
  EXPECT_FALSE(passes(changed, patches_, {3, 1}));
  changed[2 * 128 + 127] = std::nanf("");
  EXPECT_FALSE(passes(changed, patches_, {3, 1}));
  EXPECT_FALSE(passes({}, patches_, {3, 1}));
}

}  // namespace
}  // namespace beryl::bench
