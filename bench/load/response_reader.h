// Reads one HTTP/1.1 response at a time from bytes as they come: status, body, and for server-sent
// events the number of `data:` lines. Made for load generation: it trusts the server under test to
// be well-formed and reports everything else as an error, but copies nothing it need not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace beryl::load {

class ResponseReader {
 public:
  enum class State { kHeader, kBody, kDone, kBroken };

  // Consumes from the front of `bytes` and returns how many were used; stops at the response's end.
  size_t feed(std::string_view bytes);
  // Ready for the next response. keep_body: collect the body (for verification; off under load).
  void reset(bool keep_body);

  State state() const { return state_; }
  int status() const { return status_; }
  uint64_t num_events() const { return num_events_; }  // `data:` lines so far, [DONE] included
  bool keep_alive() const { return keep_alive_; }
  const std::string& body() const { return body_; }
  // What has come since the last call.
  std::string drain_body() { return std::exchange(body_, {}); }

 private:
  bool parse_header();
  size_t feed_fixed(std::string_view bytes);
  size_t feed_chunked(std::string_view bytes);
  void take_body(std::string_view bytes);

  State state_ = State::kHeader;
  std::string header_;
  std::string body_;
  std::string chunk_line_;
  bool keep_body_ = false;
  bool chunked_ = false;
  bool keep_alive_ = true;
  bool in_last_chunk_ = false;
  int status_ = 0;
  uint64_t remaining_ = 0;  // of the body or of the current chunk
  uint64_t skip_crlf_ = 0;  // bytes of the line end after a chunk
  uint64_t num_events_ = 0;
  int event_match_ = 0;  // characters of "\ndata:" seen at the end of the last piece
};

}  // namespace beryl::load
