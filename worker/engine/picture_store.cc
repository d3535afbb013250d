#include "worker/engine/picture_store.h"

#include <fmt/format.h>

#include <string>
#include <utility>

namespace beryl::engine {
namespace {

base::Error closed() {
  return base::Error{base::ErrorCode::kCancelled, "the session is over", "pictures", {}};
}

std::string text_of(const PictureKey& key) {
  return fmt::format("{:016x}{:016x}", key.high, key.low);
}

}  // namespace

base::Status PictureStore::add(const PictureKey& key, Picture picture) {
  const size_t num_bytes = picture.pixels.size();
  std::unique_lock lock(mutex_);
  if (const auto found = pictures_.find(key); found != pictures_.end()) {
    if (++found->second.num_copies <= kMaxCopies) return base::Status::ok();
    return base::invalid_argument(
        "pictures", fmt::format("picture {} came more often than it is used", text_of(key)));
  }
  changed_.wait(
      lock, [&] { return closed_ || pictures_.empty() || num_bytes_ + num_bytes <= max_bytes_; });
  if (closed_) return closed();
  pictures_.emplace(key, Entry{std::move(picture), 1});
  num_bytes_ += num_bytes;
  changed_.notify_all();
  return base::Status::ok();
}

base::Expected<Picture> PictureStore::take(const PictureKey& key) {
  std::unique_lock lock(mutex_);
  const bool is_there =
      changed_.wait_for(lock, deadline_, [&] { return closed_ || pictures_.contains(key); });
  if (closed_) return closed();
  if (!is_there) {
    return base::Error{base::ErrorCode::kDeadlineExceeded,
                       fmt::format("picture {} has not come", text_of(key)),
                       "pictures",
                       {}};
  }
  const auto found = pictures_.find(key);
  if (--found->second.num_copies > 0) return found->second.picture;
  Picture picture = std::move(found->second.picture);
  pictures_.erase(found);
  num_bytes_ -= picture.pixels.size();
  changed_.notify_all();
  return picture;
}

void PictureStore::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

size_t PictureStore::num_bytes() const {
  const std::lock_guard lock(mutex_);
  return num_bytes_;
}

}  // namespace beryl::engine
