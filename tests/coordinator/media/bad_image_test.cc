// Files that lie, are cut, or claim to be huge: one clear line, and no memory for their claims.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <functional>
#include <vector>

#include "coordinator/media/image_decoder.h"
#include "coordinator/media/image_preparer.h"
#include "tests/coordinator/media/encoders.h"
#include "tests/coordinator/media/pictures.h"

namespace beryl::media {
namespace {

const ImageLimits kLimits;

std::string error_of(std::string_view bytes, const ImageLimits& limits = kLimits) {
  const auto decoded = decode_image(bytes, limits);
  if (decoded) return "";
  EXPECT_EQ(decoded.error().code, base::ErrorCode::kInvalidArgument);
  EXPECT_EQ(decoded.error().message.find('\n'), std::string::npos);
  return decoded.error().message;
}

struct Sample {
  const char* name;
  std::string bytes;
};

std::vector<Sample> samples() {
  const RgbImage picture = golden_picture(61, 43);
  std::vector<Sample> all = {
      {"jpeg", encode_jpeg(picture)},
      {"progressive jpeg", encode_jpeg(picture, {.progressive = true})},
      {"png", encode_png(picture)},
      {"interlaced png", encode_png(picture, {.interlaced = true})},
      {"gif", encode_gif(picture)},
  };
#ifdef BERYL_WEBP
  all.push_back({"webp", encode_webp(picture)});
  all.push_back({"animated webp", encode_animated_webp(picture)});
#endif
  return all;
}

void put_big_endian(std::string& bytes, size_t at, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<char>(value >> (24 - 8 * i));
}

// libpng checks the sums of critical chunks, so a lying header needs a true one.
uint32_t crc_of(std::string_view bytes) {
  uint32_t crc = 0xffffffff;
  for (const char byte : bytes) {
    crc ^= static_cast<uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1U ^ (crc & 1U ? 0xedb88320 : 0);
  }
  return ~crc;
}

std::string png_claiming(uint32_t width, uint32_t height) {
  std::string png = encode_png(golden_picture(8, 8));
  put_big_endian(png, 16, width);
  put_big_endian(png, 20, height);
  put_big_endian(png, 29, crc_of(std::string_view(png).substr(12, 17)));
  return png;
}

// Nothing of the claimed size may be allocated: growth of the peak stays far below it.
void expect_little_memory(const std::function<void()>& body) {
  const auto peak_kib = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const long before = peak_kib();
  body();
  EXPECT_LT(peak_kib() - before, 32 * 1024);
}

TEST(BadImageTest, RefusesFilesCutAnywhere) {
  for (const Sample& sample : samples()) {
    // The very end may be missing where all pixels are there: trailers, sums.
    const size_t last = sample.bytes.size() * 3 / 4;
    for (size_t size = 0; size < last; size += 1 + size / 64) {
      EXPECT_NE(error_of(std::string_view(sample.bytes).substr(0, size)), "")
          << sample.name << " cut to " << size;
    }
    EXPECT_EQ(error_of(sample.bytes), "") << sample.name;
  }
}

TEST(BadImageTest, RefusesPngBombsWithoutMemory) {
  expect_little_memory([] {
    EXPECT_EQ(error_of(png_claiming(50'000, 50'000)),
              "The picture has 50000x50000 pixels; a side may have at most 32768.");
    EXPECT_EQ(error_of(png_claiming(30'000, 30'000)),
              "The picture has 30000x30000 pixels; at most 33554432 in all are allowed.");
    EXPECT_EQ(error_of(png_claiming(30'000, 2)),
              "The picture has 30000x2 pixels; one side may be at most 1000 times as long as the "
              "other.");
    EXPECT_NE(error_of(png_claiming(0x7fffffff, 0x7fffffff)), "");
    EXPECT_NE(error_of(png_claiming(0xffffffff, 1)), "");
    EXPECT_NE(error_of(png_claiming(0, 5)), "");
  });
}

TEST(BadImageTest, RefusesJpegAndGifBombsWithoutMemory) {
  expect_little_memory([] {
    std::string jpeg = encode_jpeg(golden_picture(8, 8));
    const size_t frame = jpeg.find("\xff\xc0");
    ASSERT_NE(frame, std::string::npos);
    for (size_t i = 0; i < 4; ++i) jpeg[frame + 5 + i] = i % 2 == 0 ? '\xff' : '\0';
    EXPECT_NE(error_of(jpeg).find("65280x65280"), std::string::npos) << error_of(jpeg);
    std::string gif = encode_gif(golden_picture(8, 8));
    for (size_t i = 6; i < 10; ++i) gif[i] = '\xff';
    EXPECT_NE(error_of(gif).find("65535x65535"), std::string::npos) << error_of(gif);
    for (size_t i = 6; i < 10; ++i) gif[i] = '\0';
    EXPECT_NE(error_of(gif), "");
  });
}

#ifdef BERYL_WEBP
TEST(BadImageTest, RefusesWebpBombsWithoutMemory) {
  expect_little_memory([] {
    // An extended header claims a canvas of 16384 x 16384.
    std::string webp = encode_animated_webp(golden_picture(8, 8));
    const size_t canvas = webp.find("VP8X") + 12;
    for (size_t i = 0; i < 6; ++i)
      webp[canvas + i] = i % 3 == 2 ? '\0' : (i % 3 == 1 ? '\x3f' : '\xff');
    EXPECT_NE(error_of(webp).find("16384x16384"), std::string::npos) << error_of(webp);
  });
}
#endif

TEST(BadImageTest, NamesEveryLimit) {
  const std::string png = encode_png(golden_picture(61, 43));
  EXPECT_NE(error_of(png, {.max_image_bytes = 100}).find("at most 100 are allowed"),
            std::string::npos);
  EXPECT_NE(error_of(png, {.max_image_side = 60}).find("at most 60"), std::string::npos);
  EXPECT_NE(error_of(png, {.max_image_pixels = 61 * 43 - 1}), "");
  EXPECT_EQ(error_of(png, {.max_image_pixels = 61 * 43}), "");
  const std::string jpeg = encode_jpeg(golden_picture(61, 43), {.progressive = true});
  EXPECT_NE(error_of(jpeg, {.max_jpeg_scans = 3}).find("too many scans"), std::string::npos);
}

TEST(BadImageTest, RefusesWhatIsNoPicture) {
  EXPECT_EQ(error_of(""), "The picture is empty.");
  for (const std::string_view bytes :
       {"<svg/>", "BM\x10\0\0", "%PDF-1.7", "RIFF\0\0\0\0WAVE", "II*\0"}) {
    EXPECT_EQ(error_of(bytes), "The data is no picture: JPEG, PNG, WebP or GIF is needed.");
  }
}

TEST(BadImageTest, TellsTheFormatByItsContent) {
  for (const Sample& sample : samples()) {
    EXPECT_TRUE(sniff_image_format(sample.bytes)) << sample.name;
  }
  EXPECT_EQ(sniff_image_format(samples()[0].bytes), ImageFormat::kJpeg);
  EXPECT_EQ(sniff_image_format(samples()[2].bytes), ImageFormat::kPng);
}

TEST(ImagePreparerTest, HashesContentAndShape) {
  const RgbImage picture = golden_picture(300, 200);
  const auto png = prepare_image_file(encode_png(picture), 280, kLimits);
  const auto interlaced =
      prepare_image_file(encode_png(picture, {.interlaced = true}), 280, kLimits);
  const auto smaller = prepare_image_file(encode_png(picture), 70, kLimits);
  RgbImage changed = picture;
  changed.pixels[3] ^= 0x40;
  const auto other = prepare_image(changed, 280);
  ASSERT_TRUE(png && interlaced && smaller && other);
  EXPECT_EQ((*png)->hash, (*interlaced)->hash);
  EXPECT_NE((*png)->hash, (*smaller)->hash);
  EXPECT_NE((*png)->hash, (*other)->hash);
  // Equal bytes in another shape.
  RgbImage wide{96, 48, std::vector<uint8_t>(96 * 48 * 3, 9)};
  RgbImage high{48, 96, std::vector<uint8_t>(96 * 48 * 3, 9)};
  const auto a = prepare_image(wide, 70);
  const auto b = prepare_image(high, 70);
  ASSERT_TRUE(a && b);
  EXPECT_EQ((*a)->pixels, (*b)->pixels);
  EXPECT_NE((*a)->hash, (*b)->hash);
}

}  // namespace
}  // namespace beryl::media
