// JPEG with libjpeg-turbo. The library reports errors by a callback that must not return; it jumps
// back to guarded(), so nothing with a destructor may live between the two.
#include <fmt/format.h>

#include <csetjmp>
#include <cstdio>
#include <functional>
// jpeglib.h wants FILE and size_t declared before it.
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>

#include "coordinator/media/format_decoders.h"
#include "coordinator/media/orientation.h"

namespace beryl::media {
namespace {

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr unsigned kMaxMarkerBytes = 0xffff;
constexpr std::string_view kTooManyScans = "it has too many scans";
constexpr std::string_view kTooShort = "it ends too early";

class JpegReader {
 public:
  JpegReader(std::string_view bytes, uint32_t max_scans) : max_scans_(max_scans) {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) { self(info).give_up(); };
    errors_.emit_message = [](j_common_ptr, int) {};  // warnings
    errors_.output_message = [](j_common_ptr) {};
    progress_.progress_monitor = [](j_common_ptr info) { self(info).check_scans(); };
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
    source_.bytes_in_buffer = bytes.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.resync_to_restart = jpeg_resync_to_restart;
    // All bytes are there from the start, so asking for more means that the file was cut.
    source_.fill_input_buffer = [](j_decompress_ptr info) -> boolean {
      self(info).give_up(kTooShort);
    };
    source_.skip_input_data = [](j_decompress_ptr info, long num_bytes) {
      self(info).skip(num_bytes);
    };
    is_created_ = guarded([](JpegReader& reader) { jpeg_create_decompress(&reader.info_); });
    info_.client_data = this;  // creating clears all but the error manager and this
    info_.src = &source_;
    info_.progress = &progress_;
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  bool read_header() {
    return is_created_ && guarded([](JpegReader& reader) {
             jpeg_save_markers(&reader.info_, kExifMarker, kMaxMarkerBytes);
             jpeg_read_header(&reader.info_, TRUE);
           });
  }

  PixelSize size() const { return {info_.image_width, info_.image_height}; }

  // CMYK pictures come as CMYK, all others as RGB.
  bool start() {
    return guarded([](JpegReader& reader) {
      jpeg_decompress_struct& info = reader.info_;
      const bool is_cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
      info.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
      jpeg_start_decompress(&info);
    });
  }

  size_t num_channels() const { return static_cast<size_t>(info_.output_components); }
  bool is_inverted_cmyk() const { return info_.saw_Adobe_marker != 0; }

  // [height, width, num_channels]
  bool read_rows(uint8_t* pixels) {
    rows_ = pixels;
    return guarded([](JpegReader& reader) {
      jpeg_decompress_struct& info = reader.info_;
      const size_t stride = size_t{info.output_width} * reader.num_channels();
      while (info.output_scanline < info.output_height) {
        JSAMPROW row = reader.rows_ + info.output_scanline * stride;
        jpeg_read_scanlines(&info, &row, 1);
      }
    });
  }

  int orientation() const {
    for (jpeg_saved_marker_ptr marker = info_.marker_list; marker != nullptr;
         marker = marker->next) {
      const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
      if (marker->marker == kExifMarker && data.starts_with("Exif")) return exif_orientation(data);
    }
    return 1;
  }

  std::string_view failure() const { return failure_.data(); }

 private:
  template <typename Info>
  static JpegReader& self(Info* info) {
    return *static_cast<JpegReader*>(info->client_data);
  }

  // False if `body` ended in an error.
  bool guarded(void (*body)(JpegReader&)) {
    if (setjmp(jump_) != 0) return false;
    body(*this);
    return true;
  }

  [[noreturn]] void give_up() {
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), failure_.data());
    std::longjmp(jump_, 1);
  }
  [[noreturn]] void give_up(std::string_view why) {
    failure_.fill('\0');
    std::copy_n(why.data(), std::min(why.size(), failure_.size() - 1), failure_.data());
    std::longjmp(jump_, 1);
  }

  void check_scans() {
    if (info_.input_scan_number > static_cast<int>(max_scans_)) give_up(kTooManyScans);
  }

  void skip(long num_bytes) {
    if (num_bytes <= 0) return;
    if (static_cast<size_t>(num_bytes) > source_.bytes_in_buffer) give_up(kTooShort);
    source_.next_input_byte += num_bytes;
    source_.bytes_in_buffer -= static_cast<size_t>(num_bytes);
  }

  uint32_t max_scans_;
  jpeg_decompress_struct info_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_source_mgr source_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf jump_ = {};
  std::array<char, JMSG_LENGTH_MAX> failure_ = {};
  uint8_t* rows_ = nullptr;
  bool is_created_ = false;
};

uint8_t multiply(uint32_t a, uint32_t b) {
  return static_cast<uint8_t>((a * b + 127) / 255);
}

// [pixels, 4] to [pixels, 3], in place. Adobe's programs store the ink that is missing.
void cmyk_to_rgb(std::vector<uint8_t>& pixels, bool is_inverted) {
  const uint8_t flip = is_inverted ? 0 : 255;
  const size_t num_pixels = pixels.size() / 4;
  for (size_t i = 0; i < num_pixels; ++i) {
    const uint8_t* const from = pixels.data() + i * 4;
    const uint8_t missing_black = from[3] ^ flip;
    for (size_t channel = 0; channel < kNumChannels; ++channel) {
      pixels[i * kNumChannels + channel] = multiply(from[channel] ^ flip, missing_black);
    }
  }
  pixels.resize(num_pixels * kNumChannels);
}

}  // namespace

base::Expected<DecodedImage> decode_jpeg(std::string_view bytes, const ImageLimits& limits) {
  JpegReader reader(bytes, limits.max_jpeg_scans);
  if (!reader.read_header()) return damaged("JPEG", reader.failure());
  const PixelSize size = reader.size();
  if (const auto status = check_image_size(size, limits); !status) return status.error();
  if (!reader.start()) return damaged("JPEG", reader.failure());
  DecodedImage decoded{{size.width, size.height, {}}, reader.orientation()};
  std::vector<uint8_t>& pixels = decoded.image.pixels;
  pixels.resize(size_t{size.width} * size.height * reader.num_channels());
  if (!reader.read_rows(pixels.data())) return damaged("JPEG", reader.failure());
  if (reader.num_channels() == 4) cmyk_to_rgb(pixels, reader.is_inverted_cmyk());
  return decoded;
}

}  // namespace beryl::media
