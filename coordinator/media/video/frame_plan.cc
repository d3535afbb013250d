#include "coordinator/media/video/frame_plan.h"

#include <algorithm>

#include "coordinator/media/frame_sampling.h"

namespace beryl::media {
namespace {

struct ShownFrame {
  int64_t time = 0;
  size_t position = 0;  // in the file

  bool operator<(const ShownFrame& other) const { return time < other.time; }
};

std::vector<ShownFrame> shown_in_order(const std::vector<CodedFrame>& frames) {
  std::vector<ShownFrame> shown;
  for (size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].is_shown) shown.push_back({frames[i].time, i});
  }
  std::stable_sort(shown.begin(), shown.end());
  return shown;
}

bool are_times_usable(const std::vector<ShownFrame>& shown) {
  if (!shown.empty() && shown.front().time == kNoTime) return false;
  return std::adjacent_find(shown.begin(), shown.end(), [](const auto& a, const auto& b) {
           return a.time == b.time;
         }) == shown.end();
}

// Where decoding has to begin for `frame`. A frame that is shown before a key frame but follows it
// in the file needs the key frame before.
size_t start_of(const ShownFrame& frame, const std::vector<CodedFrame>& frames) {
  for (size_t i = frame.position + 1; i-- > 0;) {
    if (frames[i].is_key && frames[i].time != kNoTime && frames[i].time <= frame.time) return i;
  }
  return 0;
}

}  // namespace

FramePlan plan_frames(std::vector<CodedFrame> frames, const VideoSampling& sampling,
                      double source_fps) {
  FramePlan plan;
  std::vector<ShownFrame> shown = shown_in_order(frames);
  plan.has_times = are_times_usable(shown);
  if (!plan.has_times) {
    std::sort(shown.begin(), shown.end(),
              [](const auto& a, const auto& b) { return a.position < b.position; });
    for (size_t i = 0; i < shown.size(); ++i) shown[i].time = static_cast<int64_t>(i);
  }
  plan.num_shown = static_cast<uint32_t>(shown.size());
  if (shown.empty()) return plan;
  plan.first_time = shown.front().time;
  const uint32_t num_samples =
      count_samples(plan.num_shown, source_fps, sampling.fps, sampling.num_frames);
  for (const uint32_t idx : sample_frames(plan.num_shown, num_samples)) {
    const ShownFrame& frame = shown[idx];
    const size_t start = plan.has_times ? start_of(frame, frames) : 0;
    const bool is_new_run = plan.runs.empty() || start > plan.runs.back().last + kLeastSkip;
    if (is_new_run) plan.runs.push_back({start, frame.position, 0});
    DecodingRun& run = plan.runs.back();
    run.last = std::max(run.last, frame.position);
    plan.times.push_back(frame.time);
    run.num_times = plan.times.size();
  }
  return plan;
}

}  // namespace beryl::media
