#include "coordinator/media/media_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string>
#include <utility>

#include "coordinator/media/base64.h"
#include "coordinator/media/data_uri.h"
#include "coordinator/media/frame_list.h"
#include "coordinator/media/frame_sampling.h"
#include "coordinator/media/local_file.h"

namespace beryl::media {
namespace {

constexpr std::string_view kFrameListType = "video/jpeg";
constexpr size_t kMaxSchemeBytes = 16;

// In lower case, without the colon; empty where there is none.
std::string scheme_of(std::string_view url) {
  const size_t colon = url.find(':');
  if (colon == std::string_view::npos || colon > kMaxSchemeBytes) return {};
  std::string scheme(url.substr(0, colon));
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return scheme;
}

}  // namespace

MediaLoader::MediaLoader(MediaOptions options)
    : options_(std::move(options)),
      fetcher_(options_.fetch),
      video_decoder_(options_.video_decoder_path, options_.on_decoder_failure) {}

base::Expected<std::string> MediaLoader::load_bytes(std::string_view url, size_t max_bytes,
                                                    const StopCondition& stop) const {
  const std::string scheme = scheme_of(url);
  if (scheme == "data") {
    const auto uri = parse_data_uri(url);
    if (!uri) return uri.error();
    return decode_data_uri(*uri, max_bytes);
  }
  if (scheme == "http" || scheme == "https")
    return fetcher_.fetch(std::string(url), max_bytes, stop);
  if (scheme == "file") return read_local_file(url, options_.allowed_local_media_path, max_bytes);
  return base::invalid_argument({}, "The URL must begin with data:, http: or https:.");
}

base::Expected<PreparedImagePtr> MediaLoader::load_image(std::string_view url, uint32_t budget,
                                                         const StopCondition& stop) const {
  if (const auto status = check_time(stop); !status) return status.error();
  const auto bytes = load_bytes(url, options_.image.max_image_bytes, stop);
  if (!bytes) return bytes.error();
  return prepare_image_file(*bytes, budget, options_.image);
}

base::Expected<std::vector<VideoFrame>> MediaLoader::load_video(std::string_view url,
                                                                const VideoSampling& sampling,
                                                                const StopCondition& stop) const {
  if (const auto status = check_time(stop); !status) return status.error();
  if (scheme_of(url) == "data") {
    const auto uri = parse_data_uri(url);
    if (!uri) return uri.error();
    if (uri->media_type == kFrameListType && uri->is_base64) {
      return load_frame_list(uri->data, sampling, stop);
    }
  }
  const auto bytes = load_bytes(url, options_.video.max_video_bytes, stop);
  if (!bytes) return bytes.error();
  auto decoded =
      video_decoder_.decode(*bytes, sampling, kDefaultVideoFrameBudget, options_.video, stop);
  if (!decoded) return std::move(decoded).error();
  std::vector<VideoFrame> frames;
  for (DecodedFrame& frame : *decoded) {
    frames.push_back({frame.timestamp_s, finish_image(std::move(frame.image))});
  }
  return frames;
}

base::Expected<std::vector<VideoFrame>> MediaLoader::load_frame_list(
    std::string_view data, const VideoSampling& sampling, const StopCondition& stop) const {
  if (data.size() > options_.video.max_video_bytes) {
    return base::invalid_argument({}, fmt::format("The video has more than the {} bytes allowed.",
                                                  options_.video.max_video_bytes));
  }
  const auto listed = split_frame_list(data, options_.video);
  if (!listed) return listed.error();
  const double fps = sampling.fps > 0 ? sampling.fps : kUnknownFps;
  std::vector<VideoFrame> frames;
  for (const uint32_t idx :
       sample_frames(static_cast<uint32_t>(listed->size()),
                     std::min(sampling.num_frames, options_.video.max_frames))) {
    if (const auto status = check_time(stop); !status) return status.error();
    const auto bytes = decode_base64((*listed)[idx]);
    if (!bytes) {
      return base::invalid_argument({}, fmt::format("Frame {} is not valid base64.", idx));
    }
    auto image = prepare_image_file(*bytes, kDefaultVideoFrameBudget, options_.image);
    if (!image) {
      return base::invalid_argument({}, fmt::format("Frame {}: {}", idx, image.error().message));
    }
    frames.push_back({idx / fps, std::move(*image)});
  }
  return frames;
}

std::string format_timestamp(double seconds) {
  const auto whole = static_cast<uint64_t>(std::max(seconds, 0.0));
  return fmt::format("{:02}:{:02}", whole / 60, whole % 60);
}

}  // namespace beryl::media
