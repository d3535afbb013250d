// PNG with libpng. As with JPEG, an error jumps back to guarded(), so nothing with a destructor may
// live between the two.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>

#include "coordinator/media/flatten.h"
#include "coordinator/media/format_decoders.h"
#include "coordinator/media/orientation.h"

namespace beryl::media {
namespace {

// Text, profiles, times and palettes for suggestion: not even read. Four letters and a zero each.
constexpr char kIgnoredChunks[] =
    "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTX"
    "t";
constexpr int kNumIgnoredChunks = sizeof(kIgnoredChunks) / 5;
constexpr png_alloc_size_t kMaxChunkBytes = png_alloc_size_t{1} << 20;

class PngReader {
 public:
  explicit PngReader(std::string_view bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, &PngReader::on_error,
                                  [](png_structp, png_const_charp) {});
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    remember("there is no memory for it");
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool read_header() {
    return info_ != nullptr && guarded([](PngReader& reader) {
             png_set_read_fn(reader.png_, &reader, &PngReader::read);
             png_set_user_limits(reader.png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // ours come next
             png_set_chunk_malloc_max(reader.png_, kMaxChunkBytes);
             png_set_keep_unknown_chunks(reader.png_, PNG_HANDLE_CHUNK_NEVER, nullptr, 0);
             png_set_keep_unknown_chunks(reader.png_, PNG_HANDLE_CHUNK_NEVER,
                                         reinterpret_cast<png_const_bytep>(kIgnoredChunks),
                                         kNumIgnoredChunks);
             png_read_info(reader.png_, reader.info_);
           });
  }

  PixelSize size() const {
    return {png_get_image_width(png_, info_), png_get_image_height(png_, info_)};
  }

  // Everything becomes 8-bit RGB or RGBA.
  bool start() {
    return guarded([](PngReader& reader) {
      png_set_expand(reader.png_);
      png_set_strip_16(reader.png_);
      png_set_gray_to_rgb(reader.png_);
      reader.num_passes_ = png_set_interlace_handling(reader.png_);
      png_read_update_info(reader.png_, reader.info_);
    });
  }

  size_t num_channels() const { return png_get_channels(png_, info_); }
  size_t row_bytes() const { return png_get_rowbytes(png_, info_); }

  // [height, width, num_channels]
  bool read_rows(uint8_t* pixels) {
    rows_ = pixels;
    return guarded([](PngReader& reader) {
      const size_t stride = reader.row_bytes();
      const uint32_t height = reader.size().height;
      for (int pass = 0; pass < reader.num_passes_; ++pass) {
        for (uint32_t y = 0; y < height; ++y) {
          png_read_row(reader.png_, reader.rows_ + y * stride, nullptr);
        }
      }
    });
  }

  int orientation() const {
    png_uint_32 num_bytes = 0;
    png_bytep exif = nullptr;
    if (png_get_eXIf_1(png_, info_, &num_bytes, &exif) == 0) return 1;
    return exif_orientation({reinterpret_cast<const char*>(exif), num_bytes});
  }

  std::string_view failure() const { return failure_.data(); }

 private:
  bool guarded(void (*body)(PngReader&)) {
    if (setjmp(jump_) != 0) return false;
    body(*this);
    return true;
  }

  [[noreturn]] static void on_error(png_structp png, png_const_charp why) {
    auto& reader = *static_cast<PngReader*>(png_get_error_ptr(png));
    reader.remember(why);
    std::longjmp(reader.jump_, 1);
  }

  static void read(png_structp png, png_bytep into, size_t num_bytes) {
    auto& reader = *static_cast<PngReader*>(png_get_io_ptr(png));
    if (num_bytes > reader.rest_.size()) png_error(png, "it ends too early");
    std::memcpy(into, reader.rest_.data(), num_bytes);
    reader.rest_.remove_prefix(num_bytes);
  }

  void remember(std::string_view why) {
    failure_.fill('\0');
    std::copy_n(why.data(), std::min(why.size(), failure_.size() - 1), failure_.data());
  }

  std::string_view rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_ = {};
  std::array<char, 128> failure_ = {};
  uint8_t* rows_ = nullptr;
  int num_passes_ = 1;
};

}  // namespace

base::Expected<DecodedImage> decode_png(std::string_view bytes, const ImageLimits& limits) {
  PngReader reader(bytes);
  if (!reader.read_header()) return damaged("PNG", reader.failure());
  const PixelSize size = reader.size();
  if (const auto status = check_image_size(size, limits); !status) return status.error();
  if (!reader.start()) return damaged("PNG", reader.failure());
  const size_t num_channels = reader.num_channels();
  if ((num_channels != 3 && num_channels != 4) || reader.row_bytes() != size.width * num_channels) {
    return damaged("PNG", "its pixels have an unknown form");
  }
  DecodedImage decoded{{size.width, size.height, {}}, 1};
  std::vector<uint8_t>& pixels = decoded.image.pixels;
  pixels.resize(reader.row_bytes() * size.height);
  if (!reader.read_rows(pixels.data())) return damaged("PNG", reader.failure());
  decoded.orientation = reader.orientation();
  if (num_channels == 4) flatten_over_white(pixels);
  return decoded;
}

}  // namespace beryl::media
