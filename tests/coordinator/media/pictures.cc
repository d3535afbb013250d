#include "tests/coordinator/media/pictures.h"

#include <png.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace beryl::media {

RgbImage golden_picture(uint32_t width, uint32_t height) {
  RgbImage image{width, height, {}};
  image.pixels.reserve(size_t{width} * height * kNumChannels);
  for (uint64_t y = 0; y < height; ++y) {
    for (uint64_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(x * 255 / width));
      image.pixels.push_back(static_cast<uint8_t>((x / 24 + y / 24) % 2 * 160 + y * 95 / height));
      image.pixels.push_back(static_cast<uint8_t>((x * x + y * y) / 512 % 256));
    }
  }
  return image;
}

std::string recorded_file(const std::string& name) {
  std::ifstream file(std::string(BERYL_SOURCE_DIR "/tests/data/media/") + name, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

RgbImage recorded_picture(const std::string& name) {
  const std::string bytes = recorded_file(name);
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0) {
    throw std::runtime_error(name + ": " + png.message);
  }
  png.format = PNG_FORMAT_RGB;
  RgbImage image{png.width, png.height, {}};
  image.pixels.resize(PNG_IMAGE_SIZE(png));
  if (png_image_finish_read(&png, nullptr, image.pixels.data(), 0, nullptr) == 0) {
    throw std::runtime_error(name + ": " + png.message);
  }
  return image;
}

int max_difference(const RgbImage& a, const RgbImage& b) {
  if (a.width != b.width || a.height != b.height || a.pixels.size() != b.pixels.size()) return 256;
  int largest = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    largest = std::max(largest, std::abs(int{a.pixels[i]} - int{b.pixels[i]}));
  }
  return largest;
}

}  // namespace beryl::media
