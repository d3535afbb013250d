#include "tests/coordinator/media/encoders.h"

#include <gif_lib.h>
#include <openssl/evp.h>
#include <png.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <stdexcept>
#include <vector>
// jpeglib.h wants FILE and size_t declared before it.
#include <jpeglib.h>
#ifdef BERYL_WEBP
#include <webp/encode.h>
#include <webp/mux.h>
#endif

namespace beryl::media {
namespace {

constexpr int kColorsPerChannel = 6;
constexpr int kColorStep = 51;

const uint8_t* pixel(const RgbImage& image, size_t index) {
  return image.pixels.data() + index * kNumChannels;
}

uint8_t palette_index(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] / kColorStep * kColorsPerChannel + rgb[1] / kColorStep) *
                                  kColorsPerChannel +
                              rgb[2] / kColorStep);
}

std::array<uint8_t, 3> palette_color(int index) {
  const auto level = [](int step) {
    return static_cast<uint8_t>(std::min(step % kColorsPerChannel * kColorStep, 255));
  };
  return {level(index / (kColorsPerChannel * kColorsPerChannel)), level(index / kColorsPerChannel),
          level(index)};
}
constexpr int kPaletteSize = 216;

std::vector<uint8_t> jpeg_samples(const RgbImage& image, const JpegOptions& options) {
  std::vector<uint8_t> samples;
  const size_t num_pixels = size_t{image.width} * image.height;
  for (size_t i = 0; i < num_pixels; ++i) {
    const uint8_t* const rgb = pixel(image, i);
    if (options.grey) {
      samples.push_back(rgb[0]);
    } else if (options.cmyk) {  // inverted, no black ink
      samples.insert(samples.end(), {rgb[0], rgb[1], rgb[2], 255});
    } else {
      samples.insert(samples.end(), {rgb[0], rgb[1], rgb[2]});
    }
  }
  return samples;
}

// [height, row bytes] as PNG stores them, before filtering.
std::vector<uint8_t> png_samples(const RgbImage& image, const PngOptions& options) {
  std::vector<uint8_t> samples;
  for (uint32_t y = 0; y < image.height; ++y) {
    uint8_t bits = 0;
    for (uint32_t x = 0; x < image.width; ++x) {
      const uint8_t* const rgb = pixel(image, size_t{y} * image.width + x);
      switch (options.kind) {
        case PngKind::kRgb:
          samples.insert(samples.end(), rgb, rgb + 3);
          break;
        case PngKind::kRgba:
          samples.insert(samples.end(), {rgb[0], rgb[1], rgb[2], options.alpha});
          break;
        case PngKind::kGrey:
          samples.push_back(rgb[0]);
          break;
        case PngKind::kPalette:
          samples.push_back(palette_index(rgb));
          break;
        case PngKind::kRgb16:
          for (int c = 0; c < 3; ++c) samples.insert(samples.end(), {rgb[c], uint8_t(x * 37 + y)});
          break;
        case PngKind::kGrey1:
          bits = static_cast<uint8_t>(bits << 1U | rgb[0] >> 7U);
          if (x % 8 == 7 || x + 1 == image.width) {
            samples.push_back(static_cast<uint8_t>(bits << (7 - x % 8)));
            bits = 0;
          }
          break;
      }
    }
  }
  return samples;
}

void set_palette(png_structp png, png_infop info, uint8_t alpha) {
  std::array<png_color, kPaletteSize> palette;
  for (int i = 0; i < kPaletteSize; ++i) {
    const auto color = palette_color(i);
    palette[static_cast<size_t>(i)] = {color[0], color[1], color[2]};
  }
  png_set_PLTE(png, info, palette.data(), kPaletteSize);
  if (alpha != 255) png_set_tRNS(png, info, &alpha, 1, nullptr);
}

int color_type(PngKind kind) {
  switch (kind) {
    case PngKind::kRgba:
      return PNG_COLOR_TYPE_RGB_ALPHA;
    case PngKind::kGrey:
    case PngKind::kGrey1:
      return PNG_COLOR_TYPE_GRAY;
    case PngKind::kPalette:
      return PNG_COLOR_TYPE_PALETTE;
    default:
      return PNG_COLOR_TYPE_RGB;
  }
}

void append_number(std::string& bytes, uint32_t value, int num_bytes, bool big_endian) {
  for (int i = 0; i < num_bytes; ++i) {
    bytes += static_cast<char>(value >> (8 * (big_endian ? num_bytes - 1 - i : i)));
  }
}

}  // namespace

std::string encode_jpeg(const RgbImage& image, const JpegOptions& options) {
  jpeg_compress_struct info = {};
  jpeg_error_mgr errors = {};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long num_bytes = 0;
  jpeg_mem_dest(&info, &buffer, &num_bytes);
  info.image_width = image.width;
  info.image_height = image.height;
  info.input_components = options.grey ? 1 : options.cmyk ? 4 : 3;
  info.in_color_space = options.grey ? JCS_GRAYSCALE : options.cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (options.progressive) jpeg_simple_progression(&info);
  if (options.cmyk) info.write_Adobe_marker = TRUE;
  jpeg_start_compress(&info, TRUE);
  if (!options.exif.empty()) {
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(options.exif.data()),
                      static_cast<unsigned>(options.exif.size()));
  }
  std::vector<uint8_t> samples = jpeg_samples(image, options);
  const size_t stride = size_t{image.width} * static_cast<size_t>(info.input_components);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = samples.data() + info.next_scanline * stride;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string bytes(reinterpret_cast<const char*>(buffer), num_bytes);
  std::free(buffer);  // NOLINT: allocated by the library
  return bytes;
}

std::string encode_png(const RgbImage& image, const PngOptions& options) {
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp writer, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(writer))
            ->append(reinterpret_cast<const char*>(data), size);
      },
      [](png_structp) {});
  const int depth = options.kind == PngKind::kRgb16 ? 16 : options.kind == PngKind::kGrey1 ? 1 : 8;
  png_set_IHDR(png, info, image.width, image.height, depth, color_type(options.kind),
               options.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (options.kind == PngKind::kPalette) set_palette(png, info, options.alpha);
  std::string exif = options.exif;
  if (!exif.empty()) {
    png_set_eXIf_1(png, info, static_cast<png_uint_32>(exif.size()),
                   reinterpret_cast<png_bytep>(exif.data()));
  }
  png_write_info(png, info);
  std::vector<uint8_t> samples = png_samples(image, options);
  const size_t stride = samples.size() / image.height;
  const int num_passes = png_set_interlace_handling(png);
  for (int pass = 0; pass < num_passes; ++pass) {
    for (uint32_t y = 0; y < image.height; ++y) png_write_row(png, samples.data() + y * stride);
  }
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

std::string encode_gif(const RgbImage& image, const GifOptions& options) {
  std::string bytes;
  int error = 0;
  GifFileType* gif = EGifOpen(
      &bytes,
      [](GifFileType* file, const GifByteType* data, int size) {
        static_cast<std::string*>(file->UserData)
            ->append(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
        return size;
      },
      &error);
  EGifSetGifVersion(gif, true);
  ColorMapObject* colors = GifMakeMapObject(256, nullptr);
  for (int i = 0; i < kPaletteSize; ++i) {
    const auto color = palette_color(i);
    colors->Colors[i] = {color[0], color[1], color[2]};
  }
  const int width = static_cast<int>(image.width);
  const int height = static_cast<int>(image.height);
  const int left = static_cast<int>(options.left);
  EGifPutScreenDesc(gif, width + left, height, 8, 0, colors);
  if (options.transparent_color >= 0) {
    GraphicsControlBlock control = {0, false, 0, options.transparent_color};
    GifByteType block[4];
    EGifGCBToExtension(&control, block);
    EGifPutExtension(gif, GRAPHICS_EXT_FUNC_CODE, sizeof(block), block);
  }
  EGifPutImageDesc(gif, left, 0, width, height, options.interlaced, nullptr);
  const auto put_row = [&](uint32_t y) {
    std::vector<GifPixelType> row;
    for (uint32_t x = 0; x < image.width; ++x) {
      row.push_back(palette_index(pixel(image, size_t{y} * image.width + x)));
    }
    EGifPutLine(gif, row.data(), width);
  };
  if (options.interlaced) {
    for (const auto& [first, step] : {std::pair{0U, 8U}, {4U, 8U}, {2U, 4U}, {1U, 2U}}) {
      for (uint32_t y = first; y < image.height; y += step) put_row(y);
    }
  } else {
    for (uint32_t y = 0; y < image.height; ++y) put_row(y);
  }
  GifFreeMapObject(colors);
  if (EGifCloseFile(gif, &error) == GIF_ERROR) throw std::runtime_error("giflib");
  return bytes;
}

#ifdef BERYL_WEBP
std::string encode_webp(const RgbImage& image, uint8_t alpha) {
  std::vector<uint8_t> rgba;
  for (size_t i = 0; i < size_t{image.width} * image.height; ++i) {
    const uint8_t* const rgb = pixel(image, i);
    rgba.insert(rgba.end(), {rgb[0], rgb[1], rgb[2], alpha});
  }
  uint8_t* out = nullptr;
  const int width = static_cast<int>(image.width);
  const size_t size =
      WebPEncodeLosslessRGBA(rgba.data(), width, static_cast<int>(image.height), width * 4, &out);
  std::string bytes(reinterpret_cast<const char*>(out), size);
  WebPFree(out);
  return bytes;
}

std::string encode_animated_webp(const RgbImage& image) {
  const std::string first = encode_webp(image);
  RgbImage black = image;
  std::fill(black.pixels.begin(), black.pixels.end(), uint8_t{0});
  const std::string second = encode_webp(black);
  WebPMux* mux = WebPMuxNew();
  for (const std::string& frame : {first, second}) {
    WebPMuxFrameInfo info = {};
    info.bitstream = {reinterpret_cast<const uint8_t*>(frame.data()), frame.size()};
    info.id = WEBP_CHUNK_ANMF;
    info.duration = 100;
    WebPMuxPushFrame(mux, &info, 1);
  }
  const WebPMuxAnimParams params = {0xffffffff, 0};
  WebPMuxSetAnimationParams(mux, &params);
  WebPData data = {};
  if (WebPMuxAssemble(mux, &data) != WEBP_MUX_OK) throw std::runtime_error("libwebpmux");
  std::string bytes(reinterpret_cast<const char*>(data.bytes), data.size);
  WebPDataClear(&data);
  WebPMuxDelete(mux);
  return bytes;
}
#endif

std::string exif_block(int orientation, bool big_endian) {
  std::string block = big_endian ? "MM" : "II";
  append_number(block, 42, 2, big_endian);
  append_number(block, 8, 4, big_endian);
  append_number(block, 1, 2, big_endian);
  append_number(block, 0x0112, 2, big_endian);
  append_number(block, 3, 2, big_endian);
  append_number(block, 1, 4, big_endian);
  append_number(block, static_cast<uint32_t>(orientation), 2, big_endian);
  append_number(block, 0, 2, big_endian);
  append_number(block, 0, 4, big_endian);
  return block;
}

std::string to_base64(const std::string& bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // and a zero at the end
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string png_data_uri(const RgbImage& image) {
  return "data:image/png;base64," + to_base64(encode_png(image));
}

RgbImage web_colors(RgbImage image) {
  for (uint8_t& value : image.pixels) value = static_cast<uint8_t>(value / kColorStep * kColorStep);
  return image;
}

}  // namespace beryl::media
