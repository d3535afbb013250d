// Requests without a place, in order of service. Bounded by the limits that add() enforces;
// requests that lost their place (preemption, lost epoch) always return.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

#include "coordinator/scheduler/request_state.h"

namespace beryl::scheduler {

class WaitingQueue {
 public:
  void insert(RequestState& request);
  void erase(RequestState& request);
  // The queue is not empty.
  RequestState& front() const { return *by_order_.begin()->second; }
  // A token in flight at its preemption has been reported.
  void count_late_token() { ++num_tokens_; }

  bool empty() const { return by_order_.empty(); }
  size_t size() const { return by_order_.size(); }
  uint64_t num_tokens() const { return num_tokens_; }

 private:
  std::map<ServiceOrder, RequestState*> by_order_;
  uint64_t num_tokens_ = 0;
};

}  // namespace beryl::scheduler
