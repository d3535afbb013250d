#include "coordinator/api/event_mailbox.h"

#include <boost/asio/post.hpp>
#include <iterator>
#include <utility>

namespace beryl::api {

void EventMailbox::push(uint32_t choice_idx, const scheduler::SchedulerEvent& event) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  events_.push_back({choice_idx, event});
  if (std::exchange(wake_posted_, true)) return;
  // Under the lock: after close() the executor may be gone.
  boost::asio::post(executor_, [self = shared_from_this()] { self->on_wake(); });
}

void EventMailbox::on_wake() {
  {
    const std::lock_guard lock(mutex_);
    wake_posted_ = false;
    if (closed_) return;
  }
  wake_();
}

void EventMailbox::take(std::deque<ChoiceEvent>& events) {
  spare_.clear();
  {
    const std::lock_guard lock(mutex_);
    spare_.swap(events_);
  }
  std::move(spare_.begin(), spare_.end(), std::back_inserter(events));
}

size_t EventMailbox::size() const {
  const std::lock_guard lock(mutex_);
  return events_.size();
}

void EventMailbox::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  events_.clear();
}

}  // namespace beryl::api
