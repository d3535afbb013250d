// The strict filter in front: reads a request head and refuses everything that two programs could
// read in two ways. It is the only parser of requests (no second one that could disagree), because
// the Beast of Boost 1.81 takes repeated lengths, folded lines, odd transfer codings and trailers.
#pragma once

#include <cstddef>
#include <string_view>

#include "coordinator/http/limits.h"
#include "coordinator/http/request.h"
#include "parallel/base/expected.h"

namespace beryl::http {

// Looks for the end of a head as bytes arrive, each byte once.
class HeadScanner {
 public:
  enum class State { kMore, kComplete, kBad };

  // `data` is all that has arrived of this head.
  State scan(std::string_view data);
  // Bytes of the head with its empty line, when kComplete.
  size_t head_bytes() const noexcept { return line_begin_; }
  void reset() noexcept { line_begin_ = scanned_ = 0; }

 private:
  size_t line_begin_ = 0;
  size_t scanned_ = 0;
};

// Fills all but body, path_param and request_id from `head`, a complete head. Errors mean that the
// connection must be closed, since the framing of what follows is in doubt.
base::Status parse_head(std::string_view head, const Limits& limits, Request& request);

}  // namespace beryl::http
