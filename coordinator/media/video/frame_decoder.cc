#include "coordinator/media/video/frame_decoder.h"

#include <cerrno>
#include <string_view>
#include <utility>

#include "coordinator/media/flatten.h"
#include "coordinator/media/orientation.h"
#include "coordinator/media/video/refused.h"

namespace beryl::media {
namespace {

constexpr int kScaling = SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT;
constexpr int kFixedPointOne = 1 << 16;
// Packets after that of a frame until the frame comes out; no decoder needs as many.
constexpr size_t kMostDelay = 64;
constexpr int kAlphaChannels = 4;

bool is_full_range(const AVFrame& frame) {
  const char* const name = av_get_pix_fmt_name(static_cast<AVPixelFormat>(frame.format));
  const bool is_jpeg_format = name != nullptr && std::string_view(name).starts_with("yuvj");
  return is_jpeg_format || frame.color_range == AVCOL_RANGE_JPEG;
}

LibavPtr<AVCodecContext> open_codec(const AVStream& stream, const DecodingJob& job) {
  const AVCodec* const codec = avcodec_find_decoder(stream.codecpar->codec_id);
  if (codec == nullptr) throw Refused{Refusal::kCodec};
  LibavPtr<AVCodecContext> context(avcodec_alloc_context3(codec));
  if (context == nullptr || avcodec_parameters_to_context(context.get(), stream.codecpar) < 0) {
    throw Refused{Refusal::kMemory};
  }
  context->pkt_timebase = stream.time_base;
  context->thread_count = 1;  // the sandbox starts no threads
  context->max_pixels = static_cast<int64_t>(job.max_pixels);
  AVDictionary* options = nullptr;
  av_dict_set(&options, "codec_whitelist", kCodecs, 0);
  const int status = avcodec_open2(context.get(), codec, &options);
  av_dict_free(&options);
  if (status < 0) refuse(status, Refusal::kCodec);
  return context;
}

}  // namespace

FrameDecoder::FrameDecoder(Container& container, const FramePlan& plan, const DecodingJob& job,
                           OnFrame on_frame)
    : container_(container),
      plan_(plan),
      on_frame_(std::move(on_frame)),
      codec_(open_codec(container.stream(), job)),
      frame_(av_frame_alloc()),
      packet_(av_packet_alloc()) {
  if (frame_ == nullptr || packet_ == nullptr) throw Refused{Refusal::kMemory};
}

void FrameDecoder::run() {
  for (const DecodingRun& run : plan_.runs) decode(run);
}

void FrameDecoder::decode(const DecodingRun& run) {
  if (position_ < run.first) avcodec_flush_buffers(codec_.get());
  num_errors_ = 0;
  while (num_taken_ < run.num_times) {
    if (position_ > run.last + kMostDelay) throw Refused{Refusal::kDamaged};
    if (!container_.read(*packet_)) {
      send(nullptr);  // the end of the file: the frames that were held back
      break;
    }
    if (position_++ >= run.first) send(packet_.get());
  }
  if (num_taken_ < run.num_times) throw Refused{Refusal::kDamaged};
}

void FrameDecoder::send(const AVPacket* packet) {
  // All frames are taken after each packet, so the decoder never answers EAGAIN.
  const int status = avcodec_send_packet(codec_.get(), packet);
  if (status == AVERROR(ENOMEM)) throw Refused{Refusal::kMemory};
  if (status < 0) ++num_errors_;
  receive_all();
}

void FrameDecoder::receive_all() {
  for (;;) {
    const int status = avcodec_receive_frame(codec_.get(), frame_.get());
    if (status == AVERROR(EAGAIN) || status == AVERROR_EOF) return;
    if (status == AVERROR(ENOMEM)) throw Refused{Refusal::kMemory};
    if (status < 0) {
      ++num_errors_;
      return;
    }
    take(*frame_);
    ++num_received_;
    av_frame_unref(frame_.get());
  }
}

// A sampled frame that never comes (a packet that shows nothing) is replaced by the next one,
// unless it got lost by damage.
void FrameDecoder::take(const AVFrame& frame) {
  const int64_t time = plan_.has_times ? frame.best_effort_timestamp : num_received_;
  for (; num_taken_ < plan_.times.size(); ++num_taken_) {
    const int64_t wanted = plan_.times[num_taken_];
    if (time < wanted) return;
    const bool is_damaged = frame.decode_error_flags != 0 ||
                            (frame.flags & AV_FRAME_FLAG_CORRUPT) != 0 ||
                            (time > wanted && num_errors_ > 0);
    if (is_damaged) throw Refused{Refusal::kDamaged};
    const int64_t ticks = wanted - plan_.first_time;
    const double timestamp_s =
        plan_.has_times ? container_.seconds(ticks) : static_cast<double>(ticks) / container_.fps();
    on_frame_(timestamp_s, to_rgb(frame));
  }
}

void FrameDecoder::prepare_scaler(const AVFrame& frame, AVPixelFormat to) {
  const auto from = static_cast<AVPixelFormat>(frame.format);
  scaler_.reset(sws_getCachedContext(scaler_.release(), frame.width, frame.height, from,
                                     frame.width, frame.height, to, kScaling, nullptr, nullptr,
                                     nullptr));
  if (scaler_ == nullptr) throw Refused{Refusal::kCodec};
  // Fails where `from` is no YUV format, which then needs none of this.
  (void)sws_setColorspaceDetails(scaler_.get(), sws_getCoefficients(frame.colorspace),
                                 is_full_range(frame) ? 1 : 0, sws_getCoefficients(SWS_CS_DEFAULT),
                                 1, 0, kFixedPointOne, kFixedPointOne);
}

RgbImage FrameDecoder::to_rgb(const AVFrame& frame) {
  const AVPixFmtDescriptor* const format =
      av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  if (format == nullptr || frame.width <= 0 || frame.height <= 0) {
    throw Refused{Refusal::kDamaged};
  }
  const bool has_alpha = (format->flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
  const int num_channels = has_alpha ? kAlphaChannels : static_cast<int>(kNumChannels);
  prepare_scaler(frame, has_alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24);
  RgbImage image;
  image.width = static_cast<uint32_t>(frame.width);
  image.height = static_cast<uint32_t>(frame.height);
  image.pixels.resize(size_t{image.width} * image.height * static_cast<size_t>(num_channels));
  uint8_t* const planes[] = {image.pixels.data()};
  const int strides[] = {frame.width * num_channels};
  if (sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, planes, strides) !=
      frame.height) {
    throw Refused{Refusal::kDamaged};
  }
  if (has_alpha) flatten_over_white(image.pixels);
  return apply_orientation(std::move(image), container_.orientation());
}

}  // namespace beryl::media
