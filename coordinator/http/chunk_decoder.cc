#include "coordinator/http/chunk_decoder.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::http {
namespace {

using base::Error;
using base::ErrorCode;
using base::Status;

constexpr size_t kMaxSizeDigits = 8;

Error bad_chunk(const char* message) {
  return base::invalid_argument({}, message);
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

base::Expected<size_t> ChunkDecoder::decode(std::string_view data, std::string& body) {
  size_t consumed = 0;
  while (consumed < data.size() && state_ != State::kDone) {
    if (state_ == State::kData) {
      const size_t part = std::min<uint64_t>(size_, data.size() - consumed);
      body.append(data.substr(consumed, part));
      consumed += part;
      size_ -= part;
      if (size_ == 0) state_ = State::kDataCr;
      continue;
    }
    if (Status status = push_framing(data[consumed]); !status) return status.error();
    ++consumed;
  }
  return consumed;
}

Status ChunkDecoder::push_framing(char c) {
  switch (state_) {
    case State::kSize:
      return push_size(c);
    case State::kSizeLf:
      if (c != '\n') return bad_chunk("A chunk size line does not end with CR LF.");
      return end_size_line();
    case State::kDataCr:
      if (c != '\r') return bad_chunk("A chunk is longer than its size.");
      state_ = State::kDataLf;
      return Status::ok();
    case State::kDataLf:
      if (c != '\n') return bad_chunk("A chunk does not end with CR LF.");
      state_ = State::kSize;
      return Status::ok();
    case State::kTrailer:
      return push_trailer(c);
    case State::kData:
    case State::kDone:
      break;
  }
  return Error{ErrorCode::kInternal, "Chunk decoder in a wrong state.", {}, {}};
}

Status ChunkDecoder::push_size(char c) {
  if (c == '\r' && num_digits_ > 0) {
    state_ = State::kSizeLf;
    return Status::ok();
  }
  const int digit = hex_value(c);
  if (digit < 0) {
    return bad_chunk("A chunk size must be hexadecimal digits only (no extensions).");
  }
  if (++num_digits_ > kMaxSizeDigits) return bad_chunk("A chunk size has too many digits.");
  size_ = size_ * 16 + static_cast<uint64_t>(digit);
  return Status::ok();
}

Status ChunkDecoder::end_size_line() {
  num_digits_ = 0;
  if (size_ == 0) {
    state_ = State::kTrailer;
    return Status::ok();
  }
  if (++num_chunks_ > limits_->max_num_chunks) return bad_chunk("The body has too many chunks.");
  body_bytes_ += size_;
  if (body_bytes_ > max_body_bytes_) {
    return Error{ErrorCode::kPayloadTooLarge,
                 fmt::format("The request body is larger than {} bytes.", max_body_bytes_),
                 {},
                 {}};
  }
  state_ = State::kData;
  return Status::ok();
}

Status ChunkDecoder::push_trailer(char c) {
  if (++trailer_bytes_ > limits_->max_trailer_bytes) {
    return Error{ErrorCode::kHeaderTooLarge, "The trailers are too large.", {}, {}};
  }
  if (after_cr_) {
    if (c != '\n') return bad_chunk("A trailer line does not end with CR LF.");
    after_cr_ = false;
    if (line_bytes_ == 0) state_ = State::kDone;
    line_bytes_ = 0;
    return Status::ok();
  }
  if (c == '\r') {
    after_cr_ = true;
    return Status::ok();
  }
  if (c == '\n' || c == '\0') return bad_chunk("A trailer line does not end with CR LF.");
  ++line_bytes_;
  return Status::ok();
}

}  // namespace beryl::http
