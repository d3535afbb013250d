// Limits and sameness; the numbers are checked by tests/parity.
#include "worker/model/vision_tower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "worker/weights/model_weights.h"

namespace beryl::model {
namespace {

const std::string kTiny = BERYL_SOURCE_DIR "/tests/data/tiny";

struct Picture {
  int height;
  int width;
  std::vector<uint8_t> pixels;

  kernels::ImageView view() const { return {pixels.data(), height, width}; }
};

Picture make_picture(int height, int width, uint32_t seed) {
  Picture picture = {height, width, {}};
  for (int i = 0; i < height * width * 3; ++i) {
    seed = seed * 1664525 + 1013904223;
    picture.pixels.push_back(static_cast<uint8_t>(seed >> 24));
  }
  return picture;
}

class VisionTowerTest : public testing::Test {
 protected:
  std::vector<float> encode(const std::vector<kernels::ImageView>& images, int num_threads = 1,
                            int64_t max_patches = 200) {
    const auto ops = kernels::cpu::make_cpu_ops({.num_threads = num_threads});
    VisionTower tower({config_, *weights_.vision(), *ops}, max_patches);
    const auto features = tower.encode(images);
    if (!features) return {};
    const kernels::TensorView& view = features->view();
    return {view.f32(), view.f32() + view.num_elements()};
  }

  ModelConfig config_ = load_model_config(kTiny + "/config.json");
  weights::ModelWeights weights_ =
      weights::ModelWeights::from_checkpoint(config_, weights::Checkpoint::open(kTiny), {});
  const Picture wide_ = make_picture(48, 144, 1);
  const Picture high_ = make_picture(192, 96, 2);
  const Picture small_ = make_picture(48, 48, 3);
};

TEST_F(VisionTowerTest, OneRowForEachSquareOfNinePatches) {
  const std::vector<float> features = encode({wide_.view(), high_.view(), small_.view()});
  EXPECT_EQ(features.size(), (3u + 8u + 1u) * 128u);
  for (const float value : features) ASSERT_TRUE(std::isfinite(value));
  EXPECT_TRUE(encode({}).empty());
}

TEST_F(VisionTowerTest, APictureIsTheSameInAnyCompanyAndOnAnyThreads) {
  const std::vector<float> alone = encode({high_.view()});
  // In groups of one, two and all three pictures.
  for (const int64_t max_patches : {72, 100, 200}) {
    for (const int num_threads : {1, 3}) {
      const auto all =
          encode({wide_.view(), high_.view(), small_.view()}, num_threads, max_patches);
      ASSERT_EQ(all.size(), 12u * 128u);
      EXPECT_EQ(std::memcmp(all.data() + 3 * 128, alone.data(), alone.size() * sizeof(float)), 0)
          << max_patches << " patches, " << num_threads << " threads";
    }
  }
}

TEST_F(VisionTowerTest, AnotherPixelIsAnotherFeature) {
  Picture changed = high_;
  changed.pixels[1000] ^= 0x80;
  EXPECT_NE(encode({changed.view()}), encode({high_.view()}));
}

TEST_F(VisionTowerTest, PicturesOfOtherSizesAreRefused) {
  const auto ops = kernels::cpu::make_cpu_ops({});
  VisionTower tower({config_, *weights_.vision(), *ops}, 100);
  const struct {
    int height;
    int width;
    const char* message;
  } kBad[] = {{48, 50, "multiples of 48 pixels, found 50 x 48"},
              {0, 48, "multiples of 48"},
              {-48, -48, "multiples of 48"},
              {240, 144, "at most 100 patches of 16 pixels"},
              {48, 1024 * 48, "sides up to 16384 pixels"},
              {48 << 20, 48 << 20, "found 50331648 x 50331648"}};
  for (const auto& bad : kBad) {
    const auto count = tower.num_soft_tokens(bad.height, bad.width);
    ASSERT_FALSE(count);
    EXPECT_THAT(count.error().message, testing::HasSubstr(bad.message));
    EXPECT_FALSE(tower.encode(std::vector{small_.view(), {nullptr, bad.height, bad.width}}));
  }
  ASSERT_TRUE(tower.num_soft_tokens(96, 144));
  EXPECT_EQ(*tower.num_soft_tokens(96, 144), 6);
}

}  // namespace
}  // namespace beryl::model
