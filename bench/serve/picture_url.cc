#include "bench/serve/picture_url.h"

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include <jpeglib.h>

namespace beryl::load {
namespace {

constexpr int kSquare = 16;  // pixels along a side
constexpr int kQuality = 90;

// [height, width, 3]
std::vector<uint8_t> squares(int width, int height, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto columns = static_cast<size_t>((width + kSquare - 1) / kSquare);
  const auto rows = static_cast<size_t>((height + kSquare - 1) / kSquare);
  std::vector<uint64_t> colours(columns * rows);
  for (uint64_t& colour : colours) colour = random();
  std::vector<uint8_t> pixels;
  pixels.reserve(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const uint64_t colour =
          colours[static_cast<size_t>(y / kSquare) * columns + static_cast<size_t>(x / kSquare)];
      for (int shift = 0; shift < 24; shift += 8) {
        pixels.push_back(static_cast<uint8_t>(colour >> shift));
      }
    }
  }
  return pixels;
}

std::string jpeg(int width, int height, std::vector<uint8_t> pixels) {
  jpeg_compress_struct encoder{};
  jpeg_error_mgr errors{};
  encoder.err = jpeg_std_error(&errors);  // ends the program: only lack of memory can fail here
  jpeg_create_compress(&encoder);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &memory, &size);
  encoder.image_width = static_cast<JDIMENSION>(width);
  encoder.image_height = static_cast<JDIMENSION>(height);
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, kQuality, TRUE);
  jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    JSAMPROW row = pixels.data() + size_t{encoder.next_scanline} * static_cast<size_t>(width) * 3;
    jpeg_write_scanlines(&encoder, &row, 1);
  }
  jpeg_finish_compress(&encoder);
  jpeg_destroy_compress(&encoder);
  std::string bytes(reinterpret_cast<const char*>(memory), size);
  std::free(memory);
  return bytes;
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = bytes.size() - i < 3 ? bytes.size() - i : 3;
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (j < count ? static_cast<uint8_t>(bytes[i + j]) : 0U);
    }
    for (size_t j = 0; j < 4; ++j) {
      out += j <= count ? kDigits[group >> (18 - 6 * j) & 63U] : '=';
    }
  }
  return out;
}

std::string picture_url(int width, int height, uint64_t seed) {
  return "data:image/jpeg;base64," + base64(jpeg(width, height, squares(width, height, seed)));
}

}  // namespace beryl::load
