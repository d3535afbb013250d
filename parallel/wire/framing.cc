#include "parallel/wire/framing.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <utility>

#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

base::Error bad_frame(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "frame", {}};
}

}  // namespace

base::Expected<std::string> encode_frame(const Frame& frame, size_t max_bytes) {
  const size_t num_bytes = frame.ByteSizeLong();
  if (num_bytes == 0 || num_bytes > max_bytes) {
    return base::Error{base::ErrorCode::kPayloadTooLarge,
                       fmt::format("frame of {} bytes, limit {}", num_bytes, max_bytes),
                       "frame",
                       {}};
  }
  std::string out(kFrameHeaderBytes + num_bytes, '\0');
  for (size_t i = 0; i < kFrameHeaderBytes; ++i) {
    out[i] = static_cast<char>((num_bytes >> (8 * (kFrameHeaderBytes - 1 - i))) & 0xFF);
  }
  frame.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(out.data()) + kFrameHeaderBytes);
  return out;
}

base::Expected<size_t> decode_frame_header(const std::array<char, kFrameHeaderBytes>& header,
                                           size_t max_bytes) {
  size_t num_bytes = 0;
  for (const char c : header) num_bytes = (num_bytes << 8) | static_cast<unsigned char>(c);
  if (num_bytes == 0) return bad_frame("frame without a body");
  if (num_bytes > max_bytes) {
    return base::Error{base::ErrorCode::kPayloadTooLarge,
                       fmt::format("frame of {} bytes, limit {}", num_bytes, max_bytes),
                       "frame",
                       {}};
  }
  return num_bytes;
}

base::Expected<Frame> decode_frame(std::string_view body) {
  // The library would write what a stranger sent to stderr, once per bad frame.
  const google::protobuf::LogSilencer silencer;
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(body.data()),
                                               static_cast<int>(body.size()));
  input.SetRecursionLimit(kMaxMessageDepth);
  Frame frame;
  if (!frame.ParseFromCodedStream(&input) || !input.ConsumedEntireMessage()) {
    return bad_frame("frame that is no message of the protocol");
  }
  if (frame.body_case() == Frame::BODY_NOT_SET) return bad_frame("frame of an unknown kind");
  return frame;
}

void FrameReader::append(std::string_view bytes) {
  if (consumed_ > 0) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  buffer_.append(bytes);
}

base::Expected<std::optional<Frame>> FrameReader::next() {
  if (buffer_.size() - consumed_ < kFrameHeaderBytes) return std::optional<Frame>{};
  std::array<char, kFrameHeaderBytes> header{};
  buffer_.copy(header.data(), header.size(), consumed_);
  const auto num_bytes = decode_frame_header(header, max_bytes_);
  if (!num_bytes) return num_bytes.error();
  if (buffer_.size() - consumed_ - kFrameHeaderBytes < *num_bytes) return std::optional<Frame>{};
  auto frame =
      decode_frame(std::string_view(buffer_).substr(consumed_ + kFrameHeaderBytes, *num_bytes));
  if (!frame) return frame.error();
  consumed_ += kFrameHeaderBytes + *num_bytes;
  return std::optional<Frame>(*std::move(frame));
}

}  // namespace beryl::wire
