#include "coordinator/media/image_decoder.h"

#include <fmt/format.h>

#include <utility>

#include "coordinator/media/format_decoders.h"
#include "coordinator/media/orientation.h"
#include "parallel/base/printable.h"

namespace beryl::media {
namespace {

constexpr std::string_view kPngSignature("\x89PNG\r\n\x1a\n", 8);

base::Expected<DecodedImage> decode(ImageFormat format, std::string_view bytes,
                                    const ImageLimits& limits) {
  switch (format) {
    case ImageFormat::kJpeg:
      return decode_jpeg(bytes, limits);
    case ImageFormat::kPng:
      return decode_png(bytes, limits);
    case ImageFormat::kGif:
      return decode_gif(bytes, limits);
    case ImageFormat::kWebp:
      break;
  }
#ifdef BERYL_WEBP
  return decode_webp(bytes, limits);
#else
  return base::invalid_argument({}, "This server was built without WebP.");
#endif
}

}  // namespace

std::optional<ImageFormat> sniff_image_format(std::string_view bytes) {
  if (bytes.starts_with("\xff\xd8\xff")) return ImageFormat::kJpeg;
  if (bytes.starts_with(kPngSignature)) return ImageFormat::kPng;
  if (bytes.starts_with("GIF87a") || bytes.starts_with("GIF89a")) return ImageFormat::kGif;
  if (bytes.starts_with("RIFF") && bytes.size() >= 12 && bytes.substr(8, 4) == "WEBP") {
    return ImageFormat::kWebp;
  }
  return std::nullopt;
}

base::Expected<RgbImage> decode_image(std::string_view bytes, const ImageLimits& limits) {
  if (bytes.empty()) return base::invalid_argument({}, "The picture is empty.");
  if (bytes.size() > limits.max_image_bytes) {
    return base::invalid_argument(
        {}, fmt::format("The picture has {} bytes; at most {} are allowed.", bytes.size(),
                        limits.max_image_bytes));
  }
  const auto format = sniff_image_format(bytes);
  if (!format) {
    return base::invalid_argument({}, "The data is no picture: JPEG, PNG, WebP or GIF is needed.");
  }
  auto decoded = decode(*format, bytes, limits);
  if (!decoded) return std::move(decoded).error();
  return apply_orientation(std::move(decoded->image), decoded->orientation);
}

base::Error damaged(std::string_view format, std::string_view why) {
  return base::invalid_argument(
      {}, fmt::format("The {} file is damaged: {}.", format, base::printable(why)));
}

}  // namespace beryl::media
