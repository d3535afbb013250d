// The order rules of a communicator's calls on one rank, checked: numbers its collectives, at most
// kMaxOutstandingExchanges exchanges under way, waited for in the order of their start.
#pragma once

#include <cstdint>

#include "parallel/base/assert.h"
#include "parallel/comm/communicator.h"

namespace beryl::comm {

class Outstanding {
 public:
  // Both return the number of the collective that starts.
  uint64_t begin_exchange() {
    BERYL_ASSERT(broken_ || next_ - oldest_ < kMaxOutstandingExchanges,
                 "{} exchanges are under way", next_ - oldest_);
    return next_++;
  }
  uint64_t only_one() {
    BERYL_ASSERT(broken_ || next_ == oldest_, "{} exchanges are under way", next_ - oldest_);
    ++oldest_;
    return next_++;
  }

  void end(uint64_t sequence) {
    BERYL_ASSERT(broken_ || sequence == oldest_, "wait() for exchange {}, but {} comes first",
                 sequence, oldest_);
    ++oldest_;
  }

  // The communicator is dead: its calls fail in any order.
  void break_off() { broken_ = true; }

 private:
  uint64_t next_ = 0;
  uint64_t oldest_ = 0;  // first one not yet ended
  bool broken_ = false;
};

inline void check_offsets(const ExchangeBuffers& buffers, int size) {
  const auto wanted = static_cast<size_t>(size) + 1;
  BERYL_ASSERT(buffers.send_offsets.size() == wanted && buffers.recv_offsets.size() == wanted,
               "{} and {} offsets for {} ranks", buffers.send_offsets.size(),
               buffers.recv_offsets.size(), size);
}

}  // namespace beryl::comm
