// Picture files made by the libraries themselves, in the forms that the decoders must take.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "coordinator/media/rgb_image.h"

namespace beryl::media {

struct JpegOptions {
  int quality = 95;
  bool progressive = false;
  bool grey = false;      // the red channel
  bool cmyk = false;      // Adobe's inverted form
  std::string exif = {};  // APP1 payload, "Exif\0\0" included; empty: none
};
std::string encode_jpeg(const RgbImage& image, const JpegOptions& options = {});

enum class PngKind { kRgb, kGrey, kPalette, kRgba, kRgb16, kGrey1 };
struct PngOptions {
  PngKind kind = PngKind::kRgb;
  bool interlaced = false;
  uint8_t alpha = 255;    // kRgba: of every pixel; kPalette: of entry 0
  std::string exif = {};  // eXIf payload: a TIFF block
};
// kGrey takes the red channel, kPalette 216 colours of it, kGrey1 the top bit of red, kRgb16 puts
// noise into the low bytes.
std::string encode_png(const RgbImage& image, const PngOptions& options = {});

struct GifOptions {
  bool interlaced = false;
  int transparent_color = -1;
  uint32_t left = 0;  // of the frame on a canvas that is this much larger
};
// 216 colours: each channel in steps of 51.
std::string encode_gif(const RgbImage& image, const GifOptions& options = {});

// Lossless; `alpha` of every pixel.
std::string encode_webp(const RgbImage& image, uint8_t alpha = 255);
// Two frames, the first one is `image`.
std::string encode_animated_webp(const RgbImage& image);

// A TIFF block with nothing but an orientation.
std::string exif_block(int orientation, bool big_endian);

// data:image/png;base64,… of the picture.
std::string png_data_uri(const RgbImage& image);
std::string to_base64(const std::string& bytes);

// The picture with each channel cut to steps of 51, what encode_gif and kPalette keep.
RgbImage web_colors(RgbImage image);

}  // namespace beryl::media
