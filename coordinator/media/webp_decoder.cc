// WebP with libwebp: still pictures, and the first frame of animations.
#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <memory>

#include "coordinator/media/flatten.h"
#include "coordinator/media/format_decoders.h"
#include "coordinator/media/orientation.h"

namespace beryl::media {
namespace {

constexpr size_t kAlphaChannels = 4;
constexpr size_t kMaxExifBytes = size_t{1} << 20;

const uint8_t* data_of(std::string_view bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

WebPData view_of(std::string_view bytes) {
  return {data_of(bytes), bytes.size()};
}

int find_orientation(std::string_view bytes) {
  const WebPData data = view_of(bytes);
  const std::unique_ptr<WebPDemuxer, decltype(&WebPDemuxDelete)> demuxer(WebPDemux(&data),
                                                                         &WebPDemuxDelete);
  if (demuxer == nullptr) return 1;
  WebPChunkIterator chunk = {};
  int orientation = 1;
  if (WebPDemuxGetChunk(demuxer.get(), "EXIF", 1, &chunk) != 0) {
    orientation = exif_orientation({reinterpret_cast<const char*>(chunk.chunk.bytes),
                                    std::min(chunk.chunk.size, kMaxExifBytes)});
  }
  WebPDemuxReleaseChunkIterator(&chunk);
  return orientation;
}

// The canvas as it is when the first frame is shown.
bool decode_animation(std::string_view bytes, const PixelSize& size, std::vector<uint8_t>& rgba) {
  const WebPData data = view_of(bytes);
  const std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(
      WebPAnimDecoderNew(&data, nullptr), &WebPAnimDecoderDelete);
  WebPAnimInfo info = {};
  if (decoder == nullptr || WebPAnimDecoderGetInfo(decoder.get(), &info) == 0) return false;
  if (info.canvas_width != size.width || info.canvas_height != size.height) return false;
  uint8_t* canvas = nullptr;
  int timestamp_ms = 0;
  if (WebPAnimDecoderGetNext(decoder.get(), &canvas, &timestamp_ms) == 0) return false;
  rgba.assign(canvas, canvas + size_t{size.width} * size.height * kAlphaChannels);
  return true;
}

bool decode_still(std::string_view bytes, const PixelSize& size, bool has_alpha,
                  std::vector<uint8_t>& pixels) {
  const size_t stride = size.width * (has_alpha ? kAlphaChannels : kNumChannels);
  pixels.resize(stride * size.height);
  const auto decode = has_alpha ? &WebPDecodeRGBAInto : &WebPDecodeRGBInto;
  return decode(data_of(bytes), bytes.size(), pixels.data(), pixels.size(),
                static_cast<int>(stride)) != nullptr;
}

}  // namespace

base::Expected<DecodedImage> decode_webp(std::string_view bytes, const ImageLimits& limits) {
  WebPBitstreamFeatures features = {};
  if (WebPGetFeatures(data_of(bytes), bytes.size(), &features) != VP8_STATUS_OK) {
    return damaged("WebP", "its header cannot be read");
  }
  const PixelSize size{static_cast<uint32_t>(std::max(features.width, 0)),
                       static_cast<uint32_t>(std::max(features.height, 0))};
  if (const auto status = check_image_size(size, limits); !status) return status.error();
  DecodedImage decoded{{size.width, size.height, {}}, 1};
  std::vector<uint8_t>& pixels = decoded.image.pixels;
  const bool is_animated = features.has_animation != 0;
  const bool has_alpha = is_animated || features.has_alpha != 0;
  const bool is_decoded = is_animated ? decode_animation(bytes, size, pixels)
                                      : decode_still(bytes, size, has_alpha, pixels);
  if (!is_decoded) return damaged("WebP", "its pixels cannot be read, or it ends too early");
  if (has_alpha) flatten_over_white(pixels);
  decoded.orientation = find_orientation(bytes);
  return decoded;
}

}  // namespace beryl::media
