// From planned frames to pixels.
#pragma once

#include <cstdint>
#include <functional>

#include "coordinator/media/rgb_image.h"
#include "coordinator/media/video/container.h"
#include "coordinator/media/video/frame_plan.h"

namespace beryl::media {

class FrameDecoder {
 public:
  // Gets the sampled frames in the order of their times: upright, in the size they were coded.
  using OnFrame = std::function<void(double timestamp_s, RgbImage image)>;

  // `container` is at its first packet. Throws Refused.
  FrameDecoder(Container& container, const FramePlan& plan, const DecodingJob& job,
               OnFrame on_frame);

  void run();

 private:
  void decode(const DecodingRun& run);
  void send(const AVPacket* packet);
  void receive_all();
  void take(const AVFrame& frame);
  RgbImage to_rgb(const AVFrame& frame);
  void prepare_scaler(const AVFrame& frame, AVPixelFormat to);

  Container& container_;
  const FramePlan& plan_;
  OnFrame on_frame_;
  LibavPtr<AVCodecContext> codec_;
  LibavPtr<AVFrame> frame_;
  LibavPtr<AVPacket> packet_;
  LibavPtr<SwsContext> scaler_;
  size_t num_taken_ = 0;     // of the plan's times
  uint32_t num_errors_ = 0;  // in the run
  int64_t num_received_ = 0;
  size_t position_ = 0;  // of the next packet
};

}  // namespace beryl::media
