// The first frame of a GIF with giflib. Only the records up to the first picture are read.
#include <fmt/format.h>
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "coordinator/media/format_decoders.h"

namespace beryl::media {
namespace {

constexpr uint8_t kWhite = 255;
constexpr int kNotTransparent = -1;
// Rows of an interlaced picture come in four passes: first row and distance of each.
constexpr std::array<std::array<uint32_t, 2>, 4> kPasses = {{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};
using GifFile = std::unique_ptr<GifFileType, CloseGif>;

int read_bytes(GifFileType* gif, GifByteType* into, int num_bytes) {
  auto& rest = *static_cast<std::string_view*>(gif->UserData);
  const size_t taken = std::min(static_cast<size_t>(std::max(num_bytes, 0)), rest.size());
  std::memcpy(into, rest.data(), taken);
  rest.remove_prefix(taken);
  return static_cast<int>(taken);
}

base::Error gif_error(int code) {
  const char* const why = GifErrorString(code);
  return damaged("GIF", why == nullptr ? "it ends too early" : why);
}

// Reads one extension; a graphics control block tells the transparent colour.
bool read_extension(GifFileType& gif, int& transparent_color) {
  int code = 0;
  GifByteType* block = nullptr;
  if (DGifGetExtension(&gif, &code, &block) == GIF_ERROR) return false;
  while (block != nullptr) {
    GraphicsControlBlock control;
    if (code == GRAPHICS_EXT_FUNC_CODE &&
        DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) {
      transparent_color = control.TransparentColor;
    }
    if (DGifGetExtensionNext(&gif, &block) == GIF_ERROR) return false;
  }
  return true;
}

// Goes forward to the first picture and reads its header.
base::Status find_frame(GifFileType& gif, int& transparent_color) {
  for (;;) {
    GifRecordType record = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(&gif, &record) == GIF_ERROR) return gif_error(gif.Error);
    switch (record) {
      case IMAGE_DESC_RECORD_TYPE:
        if (DGifGetImageDesc(&gif) == GIF_ERROR) return gif_error(gif.Error);
        return base::Status::ok();
      case EXTENSION_RECORD_TYPE:
        if (!read_extension(gif, transparent_color)) return gif_error(gif.Error);
        break;
      default:
        return damaged("GIF", "it has no picture");
    }
  }
}

struct Canvas {
  RgbImage& image;
  const ColorMapObject& colors;
  uint32_t left = 0;
  uint32_t top = 0;
  int transparent_color = kNotTransparent;
};

// What lies outside the canvas is cut; a colour that is not in the map is left white.
void draw_row(const std::vector<GifPixelType>& line, uint32_t row, Canvas& canvas) {
  const uint64_t y = uint64_t{canvas.top} + row;
  if (y >= canvas.image.height) return;
  for (size_t i = 0; i < line.size() && canvas.left + i < canvas.image.width; ++i) {
    if (line[i] >= canvas.colors.ColorCount || line[i] == canvas.transparent_color) continue;
    const GifColorType& color = canvas.colors.Colors[line[i]];
    uint8_t* const to =
        canvas.image.pixels.data() + (y * canvas.image.width + canvas.left + i) * kNumChannels;
    to[0] = color.Red;
    to[1] = color.Green;
    to[2] = color.Blue;
  }
}

base::Status draw_frame(GifFileType& gif, const PixelSize& frame, Canvas& canvas) {
  std::vector<GifPixelType> line(frame.width);
  const auto draw = [&](uint32_t row) {
    if (DGifGetLine(&gif, line.data(), static_cast<int>(line.size())) == GIF_ERROR) return false;
    draw_row(line, row, canvas);
    return true;
  };
  if (!gif.Image.Interlace) {
    for (uint32_t row = 0; row < frame.height; ++row) {
      if (!draw(row)) return gif_error(gif.Error);
    }
    return base::Status::ok();
  }
  for (const auto& [first, distance] : kPasses) {
    for (uint32_t row = first; row < frame.height; row += distance) {
      if (!draw(row)) return gif_error(gif.Error);
    }
  }
  return base::Status::ok();
}

uint32_t as_unsigned(GifWord value) {
  return static_cast<uint32_t>(std::max<GifWord>(value, 0));
}

}  // namespace

base::Expected<DecodedImage> decode_gif(std::string_view bytes, const ImageLimits& limits) {
  int error = 0;
  std::string_view rest = bytes;
  const GifFile gif(DGifOpen(&rest, &read_bytes, &error));
  if (gif == nullptr) return gif_error(error);
  const PixelSize size{as_unsigned(gif->SWidth), as_unsigned(gif->SHeight)};
  if (const auto status = check_image_size(size, limits); !status) return status.error();
  int transparent_color = kNotTransparent;
  if (const auto status = find_frame(*gif, transparent_color); !status) return status.error();
  const GifImageDesc& desc = gif->Image;
  const PixelSize frame{as_unsigned(desc.Width), as_unsigned(desc.Height)};
  if (const auto status = check_image_size(frame, limits); !status) return status.error();
  const ColorMapObject* colors = desc.ColorMap != nullptr ? desc.ColorMap : gif->SColorMap;
  if (colors == nullptr) return damaged("GIF", "it has no colours");
  DecodedImage decoded{{size.width, size.height, {}}, 1};
  decoded.image.pixels.assign(size_t{size.width} * size.height * kNumChannels, kWhite);
  Canvas canvas{decoded.image, *colors, as_unsigned(desc.Left), as_unsigned(desc.Top),
                transparent_color};
  if (const auto status = draw_frame(*gif, frame, canvas); !status) return status.error();
  return decoded;
}

}  // namespace beryl::media
