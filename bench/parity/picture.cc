#include "bench/parity/picture.h"

#include <fmt/format.h>
#include <png.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "coordinator/media/resize.h"
#include "coordinator/media/target_size.h"

namespace beryl::bench {

media::RgbImage load_png(const std::filesystem::path& file) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  const auto fail = [&](const std::string& found) {
    png_image_free(&image);
    throw std::runtime_error(
        fmt::format("{}: expected an 8-bit RGB PNG file, found: {}", file.string(), found));
  };
  if (png_image_begin_read_from_file(&image, file.c_str()) == 0) fail(image.message);
  if (image.format != PNG_FORMAT_RGB) fail(fmt::format("format {}", image.format));
  if (image.width > kMaxPictureSide || image.height > kMaxPictureSide) {
    fail(fmt::format("{} x {} pixels", image.width, image.height));
  }
  media::RgbImage picture = {image.width, image.height, {}};
  picture.pixels.resize(PNG_IMAGE_SIZE(image));
  if (png_image_finish_read(&image, nullptr, picture.pixels.data(), 0, nullptr) == 0) {
    fail(image.message);
  }
  return picture;
}

media::RgbImage load_resized_png(const std::filesystem::path& file, unsigned max_soft_tokens) {
  if (!media::is_soft_token_budget(max_soft_tokens)) {
    throw std::runtime_error(
        fmt::format("{}: {} soft tokens are no legal budget", file.string(), max_soft_tokens));
  }
  media::RgbImage picture = load_png(file);
  const auto size = media::target_size({picture.width, picture.height}, max_soft_tokens);
  if (!size) {
    throw std::runtime_error(fmt::format("{}: {}", file.string(), size.error().message));
  }
  return media::resize_bicubic(std::move(picture), *size);
}

media::RgbImage draw_picture(unsigned height, unsigned width) {
  media::RgbImage picture = {width, height, {}};
  picture.pixels.reserve(media::kNumChannels * height * width);
  for (unsigned y = 0; y < height; ++y) {
    for (unsigned x = 0; x < width; ++x) {
      picture.pixels.push_back(static_cast<uint8_t>(x * 255 / width));
      picture.pixels.push_back(static_cast<uint8_t>(y * 255 / height));
      picture.pixels.push_back(static_cast<uint8_t>((x / 24 + y / 24) % 2 * 160 + x * y % 64));
    }
  }
  return picture;
}

}  // namespace beryl::bench
