// Frames on a byte stream: a 4-byte big-endian length, then one serialized wire::Frame. The length
// is checked against the receiver's limit before anything is allocated.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::wire {

constexpr size_t kFrameHeaderBytes = 4;

// Header and body, ready to be written. kPayloadTooLarge above `max_bytes`.
base::Expected<std::string> encode_frame(const Frame& frame, size_t max_bytes);

// Body length of a header. Empty frames are errors too: every message has content.
base::Expected<size_t> decode_frame_header(const std::array<char, kFrameHeaderBytes>& header,
                                           size_t max_bytes);

// Fails on malformed bytes, too deep nesting and frames without a known body.
base::Expected<Frame> decode_frame(std::string_view body);

// Cuts a byte stream into frames, for readers that take what the socket has.
class FrameReader {
 public:
  explicit FrameReader(size_t max_bytes) : max_bytes_(max_bytes) {}

  void append(std::string_view bytes);
  // The next whole frame, or nothing yet. After an error the stream is unusable.
  base::Expected<std::optional<Frame>> next();

 private:
  size_t max_bytes_;
  std::string buffer_;
  size_t consumed_ = 0;
};

}  // namespace beryl::wire
