#include "coordinator/media/orientation.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

namespace beryl::media {
namespace {

constexpr std::string_view kExifPrefix("Exif\0\0", 6);
constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShortType = 3;
constexpr size_t kEntryBytes = 12;
constexpr int kUpright = 1;

// Unsigned numbers of a TIFF block, in its own byte order.
class TiffReader {
 public:
  TiffReader(std::string_view bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}

  std::optional<uint32_t> number(size_t at, size_t num_bytes) const {
    if (at > bytes_.size() || bytes_.size() - at < num_bytes) return std::nullopt;
    uint32_t value = 0;
    for (size_t i = 0; i < num_bytes; ++i) {
      const size_t byte = at + (big_endian_ ? i : num_bytes - 1 - i);
      value = value << 8U | static_cast<uint8_t>(bytes_[byte]);
    }
    return value;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

std::optional<uint32_t> find_orientation(const TiffReader& tiff) {
  if (tiff.number(2, 2) != 42U) return std::nullopt;
  const auto directory = tiff.number(4, 4);
  if (!directory) return std::nullopt;
  const auto num_entries = tiff.number(*directory, 2);
  for (uint32_t i = 0; i < num_entries.value_or(0); ++i) {
    const size_t entry = size_t{*directory} + 2 + i * kEntryBytes;
    const auto tag = tiff.number(entry, 2);
    if (!tag) return std::nullopt;
    if (*tag != kOrientationTag) continue;
    return tiff.number(entry + 2, 2) == kShortType ? tiff.number(entry + 8, 2) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

int exif_orientation(std::string_view exif) {
  if (exif.starts_with(kExifPrefix)) exif.remove_prefix(kExifPrefix.size());
  const bool big_endian = exif.starts_with("MM");
  if (!big_endian && !exif.starts_with("II")) return kUpright;
  const uint32_t found = find_orientation(TiffReader(exif, big_endian)).value_or(kUpright);
  return found >= 1 && found <= 8 ? static_cast<int>(found) : kUpright;
}

// 2 mirrors left and right, 3 turns by half, 4 mirrors up and down; 5 to 8 swap the sides first.
RgbImage apply_orientation(RgbImage image, int orientation) {
  if (orientation <= kUpright || orientation > 8) return image;
  const bool swaps_sides = orientation >= 5;
  const bool from_right =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  RgbImage turned{image.width, image.height, std::vector<uint8_t>(image.pixels.size())};
  if (swaps_sides) std::swap(turned.width, turned.height);
  uint8_t* to = turned.pixels.data();
  for (uint32_t y = 0; y < turned.height; ++y) {
    for (uint32_t x = 0; x < turned.width; ++x, to += kNumChannels) {
      uint32_t column = swaps_sides ? y : x;
      uint32_t row = swaps_sides ? x : y;
      if (from_right) column = image.width - 1 - column;
      if (from_bottom) row = image.height - 1 - row;
      const size_t from = (size_t{row} * image.width + column) * kNumChannels;
      std::copy_n(image.pixels.data() + from, kNumChannels, to);
    }
  }
  return turned;
}

}  // namespace beryl::media
