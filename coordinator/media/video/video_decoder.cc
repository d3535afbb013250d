#include "coordinator/media/video/video_decoder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "coordinator/media/prepared_image.h"
#include "coordinator/media/video/child_process.h"

namespace beryl::media {
namespace {

constexpr const char* kProgramName = "beryl-decode-video";
constexpr const char* kMissing =
    "This server does not read video files, only lists of pictures: "
    "data:video/jpeg;base64,FRAME,FRAME.";

base::Error refused(const FrameHead& head, const VideoLimits& limits) {
  const auto invalid = [](std::string message) {
    return base::invalid_argument({}, std::move(message));
  };
  switch (head.refusal) {
    case Refusal::kNone:
    case Refusal::kNoPictures:
      return invalid("The file has no video in it.");
    case Refusal::kNotAVideo:
      return invalid("The data is no video: MP4, MOV, WebM, MKV, AVI or GIF is needed.");
    case Refusal::kCodec:
      return invalid("The video must be coded as H.264, HEVC, VP8, VP9, AV1, MPEG-4 or MJPEG.");
    case Refusal::kTooManyPixels:
      return invalid(fmt::format("A frame of the video has {} pixels; at most {} are allowed.",
                                 head.value, limits.max_video_pixels));
    case Refusal::kTooManyFrames:
      return invalid(fmt::format("The video has more than {} frames.", limits.max_coded_frames));
    case Refusal::kTooLong:
      return invalid(fmt::format("The video lasts {} seconds; at most {} are allowed.", head.value,
                                 limits.max_video_seconds));
    case Refusal::kMemory:
      return invalid(fmt::format("Decoding the video takes more than the {} MiB allowed.",
                                 limits.max_decoder_memory_bytes >> 20U));
    case Refusal::kNoSandbox:
      return base::Error{base::ErrorCode::kNotImplemented, kMissing, {}, {}};
    case Refusal::kDamaged:
      break;
  }
  return invalid("The video is damaged or ends too early.");
}

base::Error not_decoded() {
  return base::invalid_argument({},
                                "The video could not be decoded: it is damaged or asks for more "
                                "than a decoder may use.");
}

// Whether a frame is what was asked for. The process is no more trusted than the video.
bool is_plausible(const FrameHead& head, uint32_t budget) {
  return head.width > 0 && head.height > 0 && head.width % kCellSize == 0 &&
         head.height % kCellSize == 0 &&
         uint64_t{head.width / kCellSize} * (head.height / kCellSize) <= budget &&
         std::isfinite(head.timestamp_s) && head.timestamp_s >= 0;
}

// One run of the process, from its first frame to its end.
class Reader {
 public:
  using Result = base::Expected<std::vector<DecodedFrame>>;

  Reader(ChildProcess& process, const DecodingJob& job, const StopCondition& stop)
      : process_(process), job_(job), stop_(stop) {}

  // `failure` gets what is for the log.
  Result read(const VideoLimits& limits, std::string& failure) {
    std::vector<DecodedFrame> frames;
    for (;;) {
      FrameHead head;
      if (!read_bytes(&head, sizeof head, failure)) return not_decoded();
      if (head.is_last != 0) {
        if (head.refusal != Refusal::kNone || frames.empty()) return refused(head, limits);
        return frames;
      }
      if (frames.size() == job_.num_frames || !is_plausible(head, job_.budget)) {
        failure = "it answered nonsense";
        return not_decoded();
      }
      RgbImage image{head.width, head.height, {}};
      image.pixels.resize(size_t{head.width} * head.height * kNumChannels);
      if (!read_bytes(image.pixels.data(), image.pixels.size(), failure)) return not_decoded();
      frames.push_back({head.timestamp_s, std::move(image)});
    }
  }

 private:
  bool read_bytes(void* to, size_t num_bytes, std::string& failure) {
    switch (process_.read(to, num_bytes, stop_)) {
      case ChildProcess::ReadResult::kDone:
        return true;
      case ChildProcess::ReadResult::kEnded:
        failure = process_.end();
        return false;
      case ChildProcess::ReadResult::kOver:
        break;
    }
    failure = "it was stopped at its deadline or because the client has gone";
    return false;
  }

  ChildProcess& process_;
  const DecodingJob& job_;
  const StopCondition& stop_;
};

DecodingJob make_job(const VideoSampling& sampling, uint32_t budget, const VideoLimits& limits) {
  DecodingJob job;
  job.num_frames = std::min(sampling.num_frames, limits.max_frames);
  job.fps = sampling.fps;
  job.budget = budget;
  job.max_seconds = limits.max_video_seconds;
  job.max_pixels = limits.max_video_pixels;
  job.max_coded_frames = limits.max_coded_frames;
  job.max_cpu_s = limits.max_decoder_cpu_s;
  job.max_memory_bytes = limits.max_decoder_memory_bytes;
  return job;
}

}  // namespace

VideoDecoder::VideoDecoder(std::string program, OnFailure on_failure)
    : program_(std::move(program)), on_failure_(std::move(on_failure)) {}

base::Expected<std::vector<DecodedFrame>> VideoDecoder::decode(std::string_view bytes,
                                                               const VideoSampling& sampling,
                                                               uint32_t budget,
                                                               const VideoLimits& limits,
                                                               const StopCondition& stop) const {
  if (program_.empty()) return base::Error{base::ErrorCode::kNotImplemented, kMissing, {}, {}};
  const DecodingJob job = make_job(sampling, budget, limits);
  const auto own_deadline = std::chrono::steady_clock::now() + limits.max_decoding_time;
  const StopCondition whole{std::min(stop.deadline, own_deadline), stop.cancelled};
  ChildProcess process(program_, {{reinterpret_cast<const char*>(&job), sizeof job}, bytes});
  if (!process.is_started()) {
    if (on_failure_) on_failure_(fmt::format("{} does not start", program_));
    return base::Error{base::ErrorCode::kUnavailable, "Videos cannot be decoded now.", {}, {}};
  }
  std::string failure;
  auto frames = Reader(process, job, whole).read(limits, failure);
  if (!failure.empty() && on_failure_) on_failure_(failure);
  if (frames) return frames;
  if (const auto status = check_time(stop); !status) return status.error();
  if (whole.is_over()) {
    return base::invalid_argument(
        {}, fmt::format("Decoding the video takes longer than {} seconds.",
                        std::chrono::duration<double>(limits.max_decoding_time).count()));
  }
  return frames;
}

std::string find_video_decoder() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return {};
  std::string program = self.parent_path() / kProgramName;
  return access(program.c_str(), X_OK) == 0 ? program : std::string();
}

}  // namespace beryl::media
