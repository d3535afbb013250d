#include "coordinator/media/stop_condition.h"

namespace beryl::media {

base::Status check_time(const StopCondition& stop) {
  if (!stop.is_over()) return base::Status::ok();
  if (stop.is_cancelled()) {
    return base::Error{base::ErrorCode::kCancelled, "The client has gone.", {}, {}};
  }
  return base::Error{base::ErrorCode::kDeadlineExceeded,
                     "Reading the media of this request took too long.",
                     {},
                     "media_timeout"};
}

}  // namespace beryl::media
