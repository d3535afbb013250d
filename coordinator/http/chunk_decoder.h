// Strict decoder of the chunked transfer coding: no extensions, CR LF only, bounded sizes, chunk
// count and trailers. Trailers are read and dropped, so they cannot add to the header fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "coordinator/http/limits.h"
#include "parallel/base/expected.h"

namespace beryl::http {

class ChunkDecoder {
 public:
  // `limits` must outlive it.
  ChunkDecoder(const Limits& limits, size_t max_body_bytes)
      : limits_(&limits), max_body_bytes_(max_body_bytes) {}
  ChunkDecoder(const Limits&& limits, size_t max_body_bytes) = delete;

  // Consumes from the front of `data` and appends to `body`; returns the bytes consumed. All of
  // `data` is consumed unless done() becomes true.
  base::Expected<size_t> decode(std::string_view data, std::string& body);
  bool done() const noexcept { return state_ == State::kDone; }

 private:
  enum class State { kSize, kSizeLf, kData, kDataCr, kDataLf, kTrailer, kDone };

  base::Status push_framing(char c);
  base::Status push_size(char c);
  base::Status end_size_line();
  base::Status push_trailer(char c);

  const Limits* limits_;
  size_t max_body_bytes_;
  State state_ = State::kSize;
  uint64_t size_ = 0;      // of the chunk being read, then what is left of it
  size_t num_digits_ = 0;  // of the size
  size_t body_bytes_ = 0;
  size_t num_chunks_ = 0;
  size_t trailer_bytes_ = 0;
  size_t line_bytes_ = 0;  // of the trailer line
  bool after_cr_ = false;
};

}  // namespace beryl::http
