#include "coordinator/scheduler/waiting_queue.h"

#include "parallel/base/assert.h"

namespace beryl::scheduler {

void WaitingQueue::insert(RequestState& request) {
  const bool inserted = by_order_.emplace(request.order, &request).second;
  BERYL_ASSERT(inserted, "request {} waits twice", request.spec.id);
  request.phase = Phase::kWaiting;
  num_tokens_ += request.num_tokens();
}

void WaitingQueue::erase(RequestState& request) {
  const size_t num_erased = by_order_.erase(request.order);
  BERYL_ASSERT(num_erased == 1, "request {} does not wait", request.spec.id);
  BERYL_ASSERT(num_tokens_ >= request.num_tokens(), "{} queued tokens", num_tokens_);
  num_tokens_ -= request.num_tokens();
}

}  // namespace beryl::scheduler
