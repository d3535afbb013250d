#include "coordinator/api/media_preparation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "parallel/base/assert.h"

namespace beryl::api {
namespace {

using base::Error;
using base::ErrorCode;

struct LoadedPart {
  std::vector<media::PreparedImagePtr> images;
  std::vector<text::SoftTokenRun> runs;
};

base::Expected<LoadedPart> load(const media::MediaLoader& loader, const MediaRequest& request,
                                const MediaPart& part, const media::StopCondition& stop) {
  LoadedPart loaded;
  if (part.kind == text::PartKind::kImage) {
    auto image = loader.load_image(part.url, part.budget.value_or(request.image_budget), stop);
    if (!image) return std::move(image).error();
    loaded.runs.push_back({(*image)->num_soft_tokens()});
    loaded.images.push_back(std::move(*image));
    return loaded;
  }
  std::string data_uri;
  if (part.is_bare_base64) data_uri = fmt::format("data:;base64,{}", part.url);
  auto frames = loader.load_video(part.is_bare_base64 ? std::string_view(data_uri) : part.url,
                                  request.video, stop);
  if (!frames) return std::move(frames).error();
  for (media::VideoFrame& frame : *frames) {
    loaded.runs.push_back(
        {frame.image->num_soft_tokens(), media::format_timestamp(frame.timestamp_s)});
    loaded.images.push_back(std::move(frame.image));
  }
  return loaded;
}

const char* outcome_of(const base::Expected<LoadedPart>& loaded) {
  if (loaded) return "ok";
  switch (loaded.error().code) {
    case ErrorCode::kCancelled:
      return "cancelled";
    case ErrorCode::kDeadlineExceeded:
      return "timeout";
    case ErrorCode::kUnavailable:
      return "unavailable";
    default:
      return "refused";
  }
}

void count(metrics::MediaMetrics& metrics, const MediaPart& part,
           const base::Expected<LoadedPart>& loaded, std::chrono::duration<double> seconds) {
  const char* const kind = part.kind == text::PartKind::kImage ? "image" : "video";
  metrics.parts.with({kind, outcome_of(loaded)}).add();
  metrics.load_s.with({kind}).observe(seconds.count());
  if (!loaded) return;
  metrics.pictures.add(loaded->images.size());
  for (const auto& image : loaded->images) metrics.prepared_bytes.add(image->pixels.size());
}

size_t num_tokens(const std::vector<text::SoftTokenRun>& runs) {
  size_t sum = 0;
  for (const text::SoftTokenRun& run : runs) sum += run.num_soft_tokens;
  return sum;
}

}  // namespace

base::Expected<PreparedMedia> PreparedMedia::prepare(const media::MediaLoader& loader,
                                                     const MediaRequest& request, size_t max_tokens,
                                                     const media::StopCondition& stop,
                                                     metrics::MediaMetrics& metrics,
                                                     std::vector<text::ChatMessage>& messages) {
  PreparedMedia prepared;
  size_t sum = 0;
  for (const MediaPart& part : request.parts) {
    const auto begin = std::chrono::steady_clock::now();
    auto loaded = load(loader, request, part, stop);
    count(metrics, part, loaded, std::chrono::steady_clock::now() - begin);
    if (!loaded) {
      Error error = std::move(loaded).error();
      error.param = part.param;
      return error;
    }
    sum += num_tokens(loaded->runs);
    if (sum > max_tokens) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("The context of this model is {} tokens, but the media up to {} need "
                      "{} of them.",
                      max_tokens, part.param, sum),
          part.param, "context_length_exceeded"};
    }
    messages[part.message_idx].parts[part.part_idx].runs = std::move(loaded->runs);
    prepared.parts_.push_back({part.message_idx, part.part_idx, std::move(loaded->images)});
  }
  return prepared;
}

const PreparedMedia::Part& PreparedMedia::find(const text::MediaPlaceholder& placeholder) const {
  const auto key = std::tie(placeholder.message_idx, placeholder.part_idx);
  const auto found =
      std::lower_bound(parts_.begin(), parts_.end(), key, [](const Part& part, const auto& wanted) {
        return std::tie(part.message_idx, part.part_idx) < wanted;
      });
  BERYL_ASSERT(found != parts_.end() && found->message_idx == placeholder.message_idx &&
                   found->part_idx == placeholder.part_idx,
               "no medium for part {} of message {}", placeholder.part_idx,
               placeholder.message_idx);
  return *found;
}

std::vector<media::PlacedImage> PreparedMedia::place(const text::RenderedChat& rendered) const {
  std::vector<media::PlacedImage> placed;
  for (const text::MediaPlaceholder& placeholder : rendered.media) {
    const Part& part = find(placeholder);
    BERYL_ASSERT(placeholder.run_idx < part.images.size(), "run {} of {}", placeholder.run_idx,
                 part.images.size());
    placed.push_back({part.images[placeholder.run_idx], placeholder.position});
  }
  return placed;
}

size_t count_soft_tokens(const text::RenderedChat& rendered, text::PartKind kind,
                         const std::vector<media::PlacedImage>& placed) {
  size_t sum = 0;
  for (size_t i = 0; i < placed.size(); ++i) {
    if (rendered.media[i].kind == kind) sum += placed[i].image->num_soft_tokens();
  }
  return sum;
}

}  // namespace beryl::api
