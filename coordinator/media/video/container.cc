#include "coordinator/media/video/container.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "coordinator/media/frame_sampling.h"
#include "coordinator/media/video/refused.h"

namespace beryl::media {
namespace {

constexpr const char* kFormats = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif";
constexpr int kIoBufferBytes = 64 * 1024;
// Of the file, read to learn what headers leave open.
constexpr int64_t kProbeBytes = int64_t{5} << 20;

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);
}

template <typename T>
LibavPtr<T> owned(T* pointer) {
  if (pointer == nullptr) throw Refused{Refusal::kMemory};
  return LibavPtr<T>(pointer);
}

const int32_t* display_matrix(const AVStream& stream) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
  const AVPacketSideData* const data =
      av_packet_side_data_get(stream.codecpar->coded_side_data, stream.codecpar->nb_coded_side_data,
                              AV_PKT_DATA_DISPLAYMATRIX);
  if (data == nullptr || data->size < sizeof(int32_t) * 9) return nullptr;
  return reinterpret_cast<const int32_t*>(data->data);
#else
  size_t size = 0;
  const uint8_t* const data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (data == nullptr || size < sizeof(int32_t) * 9) return nullptr;
  return reinterpret_cast<const int32_t*>(data);
#endif
}

}  // namespace

void refuse(int libav_error, Refusal otherwise) {
  throw Refused{libav_error == AVERROR(ENOMEM) ? Refusal::kMemory : otherwise};
}

Container::Container(std::string_view bytes, const DecodingJob& job) : source_{bytes}, job_(job) {
  open();
  if (avformat_find_stream_info(format_.get(), nullptr) < 0) throw Refused{Refusal::kDamaged};
  const int stream_idx = av_find_best_stream(format_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  if (stream_idx < 0) throw Refused{Refusal::kNoPictures};
  stream_ = format_->streams[stream_idx];
  const AVCodecParameters& shape = *stream_->codecpar;
  const auto num_pixels = static_cast<uint64_t>(std::max(shape.width, 0)) *
                          static_cast<uint64_t>(std::max(shape.height, 0));
  if (num_pixels > job.max_pixels) throw Refused{Refusal::kTooManyPixels, num_pixels};
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    if (format_->streams[i] != stream_) format_->streams[i]->discard = AVDISCARD_ALL;
  }
}

void Container::open() {
  auto* const buffer = static_cast<uint8_t*>(av_malloc(kIoBufferBytes));
  io_ = owned(
      avio_alloc_context(buffer, kIoBufferBytes, 0, &source_, &read_source, nullptr, &seek_source));
  AVFormatContext* format = avformat_alloc_context();
  if (format == nullptr) throw Refused{Refusal::kMemory};
  format->pb = io_.get();
  format->io_open = &refuse_to_open;
  format->probesize = kProbeBytes;
  format->max_streams = 64;
  AVDictionary* options = nullptr;
  av_dict_set(&options, "format_whitelist", kFormats, 0);
  av_dict_set(&options, "codec_whitelist", kCodecs, 0);
  // avformat_open_input() frees `format` where it fails.
  const int status = avformat_open_input(&format, nullptr, nullptr, &options);
  av_dict_free(&options);
  if (status < 0) refuse(status, Refusal::kNotAVideo);
  format_.reset(format);
}

int Container::read_source(void* opaque, uint8_t* to, int size) {
  auto& source = *static_cast<Source*>(opaque);
  const size_t left = source.bytes.size() - source.position;
  if (left == 0) return AVERROR_EOF;
  const size_t count = std::min(left, static_cast<size_t>(size));
  std::memcpy(to, source.bytes.data() + source.position, count);
  source.position += count;
  return static_cast<int>(count);
}

int64_t Container::seek_source(void* opaque, int64_t offset, int whence) {
  auto& source = *static_cast<Source*>(opaque);
  const auto size = static_cast<int64_t>(source.bytes.size());
  if ((whence & AVSEEK_SIZE) != 0) return size;
  const int origin = whence & ~AVSEEK_FORCE;
  const int64_t base = origin == SEEK_SET   ? 0
                       : origin == SEEK_CUR ? static_cast<int64_t>(source.position)
                                            : size;
  if (offset < -base || offset > size - base) return AVERROR(EINVAL);
  source.position = static_cast<size_t>(base + offset);
  return base + offset;
}

bool Container::read(AVPacket& packet) {
  for (;;) {
    av_packet_unref(&packet);
    const int status = av_read_frame(format_.get(), &packet);
    if (status == AVERROR_EOF) return false;
    if (status < 0) refuse(status, Refusal::kDamaged);
    if (packet.stream_index != stream_->index || packet.size == 0) continue;
    if ((packet.flags & AV_PKT_FLAG_CORRUPT) != 0) throw Refused{Refusal::kDamaged};
    return true;
  }
}

std::vector<CodedFrame> Container::list_frames() {
  std::vector<CodedFrame> frames;
  const auto packet = owned(av_packet_alloc());
  while (read(*packet)) {
    if (frames.size() == job_.max_coded_frames) throw Refused{Refusal::kTooManyFrames};
    frames.push_back({packet->pts == AV_NOPTS_VALUE ? kNoTime : packet->pts,
                      (packet->flags & AV_PKT_FLAG_KEY) != 0,
                      (packet->flags & AV_PKT_FLAG_DISCARD) == 0});
  }
  return frames;
}

double Container::fps() const {
  const double fps = av_q2d(stream_->avg_frame_rate);
  return std::isfinite(fps) && fps > 0 ? fps : kUnknownFps;
}

int Container::orientation() const {
  const int32_t* const matrix = display_matrix(*stream_);
  if (matrix == nullptr) return 1;
  const double counterclockwise = av_display_rotation_get(matrix);
  if (std::isnan(counterclockwise)) return 1;
  const int quarters = static_cast<int>(std::lround(-counterclockwise / 90)) & 3;
  constexpr int kOrientations[] = {1, 6, 3, 8};  // by quarter turns clockwise
  return kOrientations[quarters];
}

}  // namespace beryl::media
