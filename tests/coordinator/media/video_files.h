// Video files for tests, made by the ffmpeg tool.
#pragma once

#include <cstdint>
#include <string>

namespace beryl::media {

constexpr uint32_t kTestVideoFps = 10;

struct VideoFileOptions {
  uint32_t num_frames = 30;
  uint32_t width = 64;  // pixels
  uint32_t height = 48;
  std::string encoding = "-c:v libx264 -pix_fmt yuv420p";  // arguments of ffmpeg
  std::string extension = "mp4";
};

// Frame i is grey of level test_level(i), kTestVideoFps a second.
std::string make_video_file(const VideoFileOptions& options = {});
uint8_t test_level(uint32_t frame_idx);

}  // namespace beryl::media
