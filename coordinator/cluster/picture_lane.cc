#include "coordinator/cluster/picture_lane.h"

#include <utility>

#include "parallel/wire/limits.h"

namespace beryl::cluster {

void PictureLane::send(const scheduler::PictureKey& key, SharedImage image) {
  waiting_.push_back({key, std::move(image)});
  if (link_ && link_->is_idle()) send_next();
}

bool PictureLane::attach(std::shared_ptr<WorkerLink> link) {
  if (link_) return false;
  link_ = std::move(link);
  link_->start();
  send_next();
  return true;
}

void PictureLane::send_next() {
  if (waiting_.empty()) return;
  const Waiting next = std::move(waiting_.front());
  waiting_.pop_front();
  wire::Frame frame;
  wire::Picture& picture = *frame.mutable_picture();
  picture.set_epoch(epoch_);
  picture.mutable_key()->set_high(next.key.high);
  picture.mutable_key()->set_low(next.key.low);
  picture.set_height(next.image->height);
  picture.set_width(next.image->width);
  picture.set_pixels(next.image->pixels.data(), next.image->pixels.size());
  link_->send(frame, wire::kMaxPictureFrameBytes);
}

void PictureLane::close(const wire::Frame& last) {
  waiting_.clear();
  if (!link_) return;
  link_->send(last, wire::kMaxHandshakeFrameBytes);
  link_->close(/*flush=*/true);
}

}  // namespace beryl::cluster
