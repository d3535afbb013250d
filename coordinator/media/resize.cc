// Both passes are one loop: `lanes` neighbouring bytes, each the weighted sum of the bytes at the
// same place of `count` records. Down the columns the records are rows of the picture as they are;
// along the rows a strip of kStripRows rows is first turned so that records are columns.
#include "coordinator/media/resize.h"

#include <algorithm>
#include <array>
#include <utility>

#include "coordinator/media/filter_taps.h"
#include "parallel/base/assert.h"

// NOTE: the function is compiled twice and chosen when the program is loaded; sanitizers run before
// that is possible.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define BERYL_VECTOR_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define BERYL_VECTOR_CLONES
#endif

namespace beryl::media {
namespace {

constexpr size_t kStripRows = 16;
constexpr size_t kStripLanes = kStripRows * kNumChannels;
constexpr size_t kBlockLanes = 96;  // accumulators that stay in registers or the first cache

struct WeightedRecords {
  const uint8_t* records = nullptr;  // [count, stride]
  size_t stride = 0;                 // bytes from one record to the next
  const int16_t* weights = nullptr;  // [count]
  uint32_t count = 0;
  int precision = 0;
};

// out[l] = clamp((sum of weights[t] * records[t][l] + half) >> precision), l < lanes <=
// kBlockLanes.
BERYL_VECTOR_CLONES void weigh_block(const WeightedRecords& in, size_t lanes, uint8_t* out) {
  std::array<int32_t, kBlockLanes> sums;
  const int32_t half = in.precision > 0 ? int32_t{1} << (in.precision - 1) : 0;
  for (size_t l = 0; l < lanes; ++l) sums[l] = half;
  for (uint32_t t = 0; t < in.count; ++t) {
    const uint8_t* const record = in.records + t * in.stride;
    const int32_t weight = in.weights[t];
    for (size_t l = 0; l < lanes; ++l) sums[l] += weight * record[l];
  }
  for (size_t l = 0; l < lanes; ++l) {
    out[l] = static_cast<uint8_t>(std::clamp(sums[l] >> in.precision, 0, 255));
  }
}

WeightedRecords records_for(const FilterTaps& taps, uint32_t out, const uint8_t* source,
                            size_t stride) {
  return {.records = source + taps.first[out] * stride,
          .stride = stride,
          .weights = taps.weights_of(out),
          .count = taps.count[out],
          .precision = taps.precision};
}

// Rows [0, num_rows) of a strip, [num_rows, width, 3] -> [width, kStripRows, 3].
void turn_strip(const uint8_t* rows, size_t num_rows, size_t width, uint8_t* turned) {
  for (size_t row = 0; row < num_rows; ++row) {
    const uint8_t* from = rows + row * width * kNumChannels;
    uint8_t* to = turned + row * kNumChannels;
    for (size_t x = 0; x < width; ++x, from += kNumChannels, to += kStripLanes) {
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
}

void turn_strip_back(const uint8_t* turned, size_t num_rows, size_t width, uint8_t* rows) {
  for (size_t row = 0; row < num_rows; ++row) {
    const uint8_t* from = turned + row * kNumChannels;
    uint8_t* to = rows + row * width * kNumChannels;
    for (size_t x = 0; x < width; ++x, from += kStripLanes, to += kNumChannels) {
      to[0] = from[0];
      to[1] = from[1];
      to[2] = from[2];
    }
  }
}

RgbImage resize_width(const RgbImage& image, uint32_t width) {
  const FilterTaps taps = make_bicubic_taps(image.width, width);
  RgbImage resized{width, image.height, {}};
  resized.pixels.resize(size_t{width} * image.height * kNumChannels);
  std::vector<uint8_t> strip(size_t{image.width} * kStripLanes);
  std::vector<uint8_t> filtered(size_t{width} * kStripLanes);
  for (size_t row = 0; row < image.height; row += kStripRows) {
    const size_t num_rows = std::min(kStripRows, image.height - row);
    turn_strip(image.pixels.data() + row * image.width * kNumChannels, num_rows, image.width,
               strip.data());
    for (uint32_t x = 0; x < width; ++x) {
      weigh_block(records_for(taps, x, strip.data(), kStripLanes), kStripLanes,
                  filtered.data() + x * kStripLanes);
    }
    turn_strip_back(filtered.data(), num_rows, width,
                    resized.pixels.data() + row * width * kNumChannels);
  }
  return resized;
}

RgbImage resize_height(const RgbImage& image, uint32_t height) {
  const FilterTaps taps = make_bicubic_taps(image.height, height);
  RgbImage resized{image.width, height, {}};
  const size_t stride = size_t{image.width} * kNumChannels;
  resized.pixels.resize(stride * height);
  for (uint32_t y = 0; y < height; ++y) {
    for (size_t lane = 0; lane < stride; lane += kBlockLanes) {
      weigh_block(records_for(taps, y, image.pixels.data() + lane, stride),
                  std::min(kBlockLanes, stride - lane), resized.pixels.data() + y * stride + lane);
    }
  }
  return resized;
}

}  // namespace

RgbImage resize_bicubic(RgbImage image, PixelSize size) {
  BERYL_ASSERT(image.width > 0 && image.height > 0 && size.width > 0 && size.height > 0,
               "resizing {}x{} to {}x{}", image.width, image.height, size.width, size.height);
  if (image.width != size.width) image = resize_width(image, size.width);
  if (image.height != size.height) image = resize_height(image, size.height);
  return image;
}

}  // namespace beryl::media
