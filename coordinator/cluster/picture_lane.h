// PictureLane: pictures on their way to one rank of an epoch, over its second connection. Pictures
// wait as shared pixels; one at a time is turned into bytes, when the one before it is sent. Lives
// on the driver's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "coordinator/cluster/picture_book.h"
#include "coordinator/cluster/worker_link.h"
#include "coordinator/scheduler/request.h"

namespace beryl::cluster {

// A picture and the rank that will encode it.
struct PictureShipment {
  uint32_t rank = 0;
  scheduler::PictureKey key;
  SharedImage image;
};

class PictureLane {
 public:
  explicit PictureLane(uint64_t epoch) : epoch_(epoch) {}

  // Waits for the connection if it is not there yet.
  void send(const scheduler::PictureKey& key, SharedImage image);

  // The connection, which has not started yet. False: there is one already.
  bool attach(std::shared_ptr<WorkerLink> link);
  bool has(const WorkerLink& link) const { return link_.get() == &link; }
  // What was given to the connection has been sent.
  void on_drained() { send_next(); }

  // Pictures that wait are forgotten.
  void close(const wire::Frame& last);

  size_t num_waiting() const { return waiting_.size(); }

 private:
  struct Waiting {
    scheduler::PictureKey key;
    SharedImage image;
  };
  void send_next();

  uint64_t epoch_;
  std::deque<Waiting> waiting_;
  std::shared_ptr<WorkerLink> link_;
};

}  // namespace beryl::cluster
