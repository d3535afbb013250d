// How media of requests are treated, set once at start.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "coordinator/media/image_limits.h"
#include "coordinator/media/prepared_image.h"
#include "coordinator/media/url_fetcher.h"

namespace beryl::media {

struct VideoLimits {
  uint32_t max_listed_frames = 4'096;  // in a video given as a list of pictures
  uint32_t max_frames = 128;           // shown to the model
  size_t max_video_bytes = size_t{128} << 20;
};

struct MediaOptions {
  ImageLimits image;
  VideoLimits video;
  FetchOptions fetch;
  std::string allowed_local_media_path;  // empty: no file: URLs
  uint32_t max_images_per_prompt = 32;
  uint32_t max_videos_per_prompt = 2;
  uint32_t default_image_budget = kDefaultImageBudget;  // soft tokens
  std::chrono::milliseconds timeout{60'000};            // all media of one request
};

}  // namespace beryl::media
