// How media of requests are treated, set once at start.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "coordinator/media/image_limits.h"
#include "coordinator/media/prepared_image.h"
#include "coordinator/media/url_fetcher.h"
#include "coordinator/media/video/video_limits.h"

namespace beryl::media {

struct MediaOptions {
  ImageLimits image;
  VideoLimits video;
  FetchOptions fetch;
  std::string allowed_local_media_path;  // empty: no file: URLs
  std::string video_decoder_path;  // the program; empty: no video files, only lists of pictures
  // Why a decoder ended without an answer: for the log of the server, not for the client.
  std::function<void(std::string_view)> on_decoder_failure = {};
  uint32_t max_images_per_prompt = 32;
  uint32_t max_videos_per_prompt = 2;
  uint32_t default_image_budget = kDefaultImageBudget;  // soft tokens
  std::chrono::milliseconds timeout{60'000};            // all media of one request
};

}  // namespace beryl::media
