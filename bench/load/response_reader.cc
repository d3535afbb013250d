#include "bench/load/response_reader.h"

#include <algorithm>
#include <charconv>

namespace beryl::load {
namespace {

constexpr size_t kMaxHeaderBytes = 64 * 1024;
constexpr std::string_view kEventStart = "\ndata:";

bool contains_ignoring_case(std::string_view text, std::string_view lower_needle) {
  const auto equal = [](char a, char b) {
    return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
  };
  return std::search(text.begin(), text.end(), lower_needle.begin(), lower_needle.end(), equal) !=
         text.end();
}

}  // namespace

void ResponseReader::reset(bool keep_body) {
  *this = ResponseReader();
  keep_body_ = keep_body;
}

size_t ResponseReader::feed(std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size() && (state_ == State::kHeader || state_ == State::kBody)) {
    const std::string_view rest = bytes.substr(used);
    if (state_ == State::kHeader) {
      const size_t before = header_.size();
      header_.append(rest.substr(0, kMaxHeaderBytes));
      const size_t end = header_.find("\r\n\r\n", before < 3 ? 0 : before - 3);
      if (end == std::string::npos) {
        if (header_.size() >= kMaxHeaderBytes) state_ = State::kBroken;
        return bytes.size();
      }
      used += end + 4 - before;
      header_.resize(end + 2);
      state_ = parse_header() ? State::kBody : State::kBroken;
      event_match_ = 1;  // a body may start with "data:" as if after a line end
      if (state_ == State::kBody && !chunked_ && remaining_ == 0) state_ = State::kDone;
    } else {
      used += chunked_ ? feed_chunked(rest) : feed_fixed(rest);
    }
  }
  return used;
}

bool ResponseReader::parse_header() {
  if (header_.size() < 12 || header_.compare(0, 7, "HTTP/1.") != 0) return false;
  std::from_chars(header_.data() + 9, header_.data() + 12, status_);
  chunked_ = contains_ignoring_case(header_, "transfer-encoding: chunked");
  keep_alive_ = !contains_ignoring_case(header_, "connection: close");
  constexpr std::string_view kLength = "content-length: ";
  size_t line = header_.find("\r\n");
  while (line != std::string::npos && line + 2 < header_.size()) {
    const size_t next = header_.find("\r\n", line + 2);
    const std::string_view field(header_.data() + line + 2, next - line - 2);
    if (field.size() > kLength.size() &&
        contains_ignoring_case(field.substr(0, kLength.size()), kLength)) {
      std::from_chars(field.data() + kLength.size(), field.data() + field.size(), remaining_);
    }
    line = next;
  }
  return status_ >= 100;
}

void ResponseReader::take_body(std::string_view bytes) {
  if (keep_body_) body_.append(bytes);
  for (const char c : bytes) {
    if (c == kEventStart[static_cast<size_t>(event_match_)]) {
      if (++event_match_ == static_cast<int>(kEventStart.size())) {
        ++num_events_;
        event_match_ = 0;
      }
    } else {
      event_match_ = c == '\n' ? 1 : 0;
    }
  }
}

size_t ResponseReader::feed_fixed(std::string_view bytes) {
  const size_t take = std::min<uint64_t>(bytes.size(), remaining_);
  take_body(bytes.substr(0, take));
  remaining_ -= take;
  if (remaining_ == 0) state_ = State::kDone;
  return take;
}

size_t ResponseReader::feed_chunked(std::string_view bytes) {
  if (skip_crlf_ > 0) {
    const size_t take = std::min<uint64_t>(bytes.size(), skip_crlf_);
    skip_crlf_ -= take;
    if (skip_crlf_ == 0 && in_last_chunk_) state_ = State::kDone;
    return take;
  }
  if (remaining_ > 0) {
    const size_t take = std::min<uint64_t>(bytes.size(), remaining_);
    take_body(bytes.substr(0, take));
    remaining_ -= take;
    if (remaining_ == 0) skip_crlf_ = 2;
    return take;
  }
  const size_t end = bytes.find('\n');
  chunk_line_.append(bytes.substr(0, end == std::string_view::npos ? bytes.size() : end));
  if (end == std::string_view::npos) return bytes.size();
  uint64_t size = 0;
  const auto parsed =
      std::from_chars(chunk_line_.data(), chunk_line_.data() + chunk_line_.size(), size, 16);
  if (parsed.ec != std::errc()) state_ = State::kBroken;
  chunk_line_.clear();
  remaining_ = size;
  if (size == 0) {
    in_last_chunk_ = true;
    skip_crlf_ = 2;
  }
  return end + 1;
}

}  // namespace beryl::load
