// Settings of the cluster side of the coordinator, with the defaults of the command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "coordinator/scheduler/scheduler.h"

namespace beryl::cluster {

struct ClusterOptions {
  std::string worker_host = "127.0.0.1";  // where workers dial
  uint16_t worker_port = 0;               // 0: any free one

  std::chrono::milliseconds heartbeat_interval{500};
  std::chrono::milliseconds heartbeat_deadline{4'000};  // silence that ends an epoch
  std::chrono::milliseconds step_deadline{60'000};      // no step completed for that long
  // A group whose oldest step is older than this counts as not ready, though it may recover.
  std::chrono::milliseconds slow_step{15'000};

  uint32_t max_groups = 64;
  uint32_t max_connections = 1024;  // of workers, those that have not registered included
  size_t max_queued_send_bytes = size_t{96} << 20;  // to one rank that reads too slowly

  scheduler::SchedulerConfig scheduler;
};

}  // namespace beryl::cluster
