// A container file in memory: its one video stream, packet by packet. Reads only the formats and
// codecs that are listed in container.cc; opens nothing else, whatever the file refers to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "coordinator/media/video/decoding_protocol.h"
#include "coordinator/media/video/frame_plan.h"
#include "coordinator/media/video/libav.h"

namespace beryl::media {

// The decoders that may run, in any use.
constexpr const char* kCodecs = "h264,hevc,vp8,vp9,libdav1d,libaom-av1,mpeg4,mjpeg,gif";

class Container {
 public:
  // `bytes` must outlive this. Throws Refused.
  Container(std::string_view bytes, const DecodingJob& job);
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  // Reads all packets of the stream once. Throws Refused, also where the file ends within one.
  std::vector<CodedFrame> list_frames();

  // The next packet of the stream; false at the end.
  bool read(AVPacket& packet);

  const AVStream& stream() const { return *stream_; }
  double seconds(int64_t ticks) const {
    return static_cast<double>(ticks) * av_q2d(stream_->time_base);
  }
  // Frames a second; 24 where the file does not say.
  double fps() const;
  // EXIF's number for how the frames have to be turned.
  int orientation() const;

 private:
  struct Source {
    std::string_view bytes;
    size_t position = 0;
  };

  static int read_source(void* opaque, uint8_t* to, int size);
  static int64_t seek_source(void* opaque, int64_t offset, int whence);
  void open();

  Source source_;
  const DecodingJob& job_;
  LibavPtr<AVIOContext> io_;
  LibavPtr<AVFormatContext> format_;
  AVStream* stream_ = nullptr;  // of format_
};

}  // namespace beryl::media
