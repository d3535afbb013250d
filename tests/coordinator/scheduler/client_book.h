// What the clients of a simulated server asked, what they were told, and whether it is right.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/request.h"

namespace beryl::scheduler::sim {

class ClientBook {
 public:
  // Remembers the request and works out the text it must end with.
  void open(const NewRequest& request);
  // It was refused: nothing may ever be said about it.
  void refuse(RequestId id) { clients_.erase(id); }
  void note_cancel(RequestId id);

  // An empty string, or what is wrong with the event.
  std::string take(const SchedulerEvent& event, int64_t now_us);
  std::string check_all_ended() const;

  size_t num_open() const { return num_open_; }
  uint64_t num_tokens() const { return num_tokens_; }
  uint64_t num_ended(FinishReason reason) const;
  // A request that is still open, or 0.
  bool is_open(RequestId id) const;

 private:
  struct Client {
    std::vector<int32_t> prompt;
    std::vector<int32_t> expected;
    FinishReason expected_reason = FinishReason::kLength;
    size_t num_received = 0;
    size_t next_prompt_logprob = 1;
    bool wants_prompt_logprobs = false;
    uint64_t arrival = 0;
    int32_t priority = 0;
    int64_t deadline_us = 0;
    bool was_cancelled = false;
    bool was_scheduled = false;
    bool has_ended = false;
  };
  std::string take_schedule(Client& client);
  std::string take_tokens(Client& client, const SchedulerEvent& event);
  std::string take_end(Client& client, const SchedulerEvent& event, int64_t now_us);

  std::unordered_map<RequestId, Client> clients_;
  std::map<int32_t, uint64_t> last_scheduled_;  // priority -> arrival
  std::map<FinishReason, uint64_t> ended_;
  uint64_t num_arrivals_ = 0;
  uint64_t num_tokens_ = 0;
  size_t num_open_ = 0;
};

}  // namespace beryl::scheduler::sim
