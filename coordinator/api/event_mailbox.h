// Where an engine thread leaves the events of a client request for the I/O thread that serves it.
// Many events make one wake-up.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "coordinator/scheduler/request.h"

namespace beryl::api {

struct ChoiceEvent {
  uint32_t choice_idx = 0;
  scheduler::SchedulerEvent event;
};

class EventMailbox : public std::enable_shared_from_this<EventMailbox> {
 public:
  // `wake` runs on `executor` after a push, until close().
  EventMailbox(boost::asio::any_io_executor executor, std::function<void()> wake)
      : executor_(std::move(executor)), wake_(std::move(wake)) {}

  // Any thread; never blocks for long.
  void push(uint32_t choice_idx, const scheduler::SchedulerEvent& event);

  // The rest on the executor only.
  void take(std::deque<ChoiceEvent>& events);  // appends
  size_t size() const;
  void close();

 private:
  void on_wake();

  boost::asio::any_io_executor executor_;
  std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::vector<ChoiceEvent> events_;
  std::vector<ChoiceEvent> spare_;  // keeps its memory; of the executor
  bool wake_posted_ = false;
  bool closed_ = false;
};

}  // namespace beryl::api
