// PictureStore: pixels between the thread that receives them and the step that encodes them.
// Pictures come and are used in the order of plans. When it is full the receiver waits, which holds
// the coordinator back and nothing else; a step that waits for a picture takes others out first.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "parallel/base/expected.h"
#include "worker/engine/rank_feature_jobs.h"

namespace beryl::engine {

class PictureStore final : public PictureSource {
 public:
  static constexpr size_t kDefaultMaxBytes = size_t{64} << 20;
  // A picture may be sent again for a later step that is planned already; more copies than steps
  // can be in flight are a broken coordinator.
  static constexpr uint32_t kMaxCopies = 8;

  // `deadline`: how long a step waits for a picture. One picture is always taken, whatever its
  // size.
  explicit PictureStore(std::chrono::milliseconds deadline, size_t max_bytes = kDefaultMaxBytes)
      : deadline_(deadline), max_bytes_(max_bytes) {}

  // Waits for room. kInvalidArgument: the picture came too often. kCancelled: closed.
  base::Status add(const PictureKey& key, Picture picture);
  // Waits for the picture and takes one copy out. kDeadlineExceeded, or kCancelled: closed.
  base::Expected<Picture> take(const PictureKey& key) override;

  // Ends pending and later calls.
  void close();
  size_t num_bytes() const;

 private:
  const std::chrono::milliseconds deadline_;
  const size_t max_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  struct Entry {
    Picture picture;
    uint32_t num_copies = 1;  // that came; equal, so one is held
  };
  std::map<PictureKey, Entry> pictures_;
  size_t num_bytes_ = 0;
  bool closed_ = false;
};

}  // namespace beryl::engine
