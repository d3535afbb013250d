#include "tests/coordinator/media/video_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace beryl::media {

uint8_t test_level(uint32_t frame_idx) {
  return static_cast<uint8_t>(8 + frame_idx * 8 % 240);
}

std::string make_video_file(const VideoFileOptions& options) {
  static int num_made = 0;
  const std::filesystem::path stem = std::filesystem::temp_directory_path() /
                                     fmt::format("beryl_video_{}_{}", getpid(), num_made++);
  const std::string raw = stem.string() + ".raw";
  const std::string made = stem.string() + "." + options.extension;
  {
    std::ofstream file(raw, std::ios::binary);
    for (uint32_t i = 0; i < options.num_frames; ++i) {
      file << std::string(size_t{options.width} * options.height * 3,
                          static_cast<char>(test_level(i)));
    }
  }
  const std::string command = fmt::format(
      "{} -nostdin -loglevel error -y -f rawvideo -pix_fmt rgb24 -s {}x{} -r {} -i {} -threads 1 "
      "{} {}",
      BERYL_FFMPEG, options.width, options.height, kTestVideoFps, raw, options.encoding, made);
  const int status = std::system(command.c_str());
  std::ifstream file(made, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::filesystem::remove(raw);
  std::filesystem::remove(made);
  if (status != 0 || bytes.empty()) throw std::runtime_error("failed: " + command);
  return bytes;
}

}  // namespace beryl::media
