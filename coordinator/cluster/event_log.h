// EventLog: what happens to the groups, one JSON object a line on a descriptor that a launcher gave
// us. It reads them to restart the processes of a lost group.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace beryl::cluster {

struct GroupLoss {
  uint32_t group = 0;
  uint64_t epoch = 0;
  std::string reason;
  std::vector<int64_t> pids;  // of all ranks
  int64_t detected_ms = 0;    // from the last sign of life of the rank at fault to this event
};

class EventLog {
 public:
  // `fd` -1: no events. Not closed by this object.
  explicit EventLog(int fd) : fd_(fd) {}

  void listening(uint16_t http_port, uint16_t worker_port);
  void group_ready(uint32_t group, uint64_t epoch, int64_t rebuilt_ms);
  void group_lost(const GroupLoss& loss);
  // The first token of an epoch that follows a loss; times count from the loss.
  void group_serving(uint32_t group, uint64_t epoch, int64_t first_token_ms);
  void draining();

 private:
  void write_line(const std::string& json);

  std::mutex mutex_;
  const int fd_;
};

}  // namespace beryl::cluster
