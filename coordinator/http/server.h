// Listens, spreads connections over I/O threads, and ends in order: drain(), then stop().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "coordinator/http/router.h"
#include "coordinator/http/server_config.h"
#include "coordinator/metrics/server_metrics.h"
#include "parallel/base/expected.h"
#include "parallel/base/log.h"

namespace beryl::http {

class Server {
 public:
  struct Parts {
    ServerConfig config;
    ServerHooks hooks;
    Router router;
  };

  // `metrics` and `logger` must outlive this.
  Server(Parts parts, metrics::HttpMetrics& metrics, base::Logger& logger);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Binds and starts all threads. kUnavailable where the address cannot be had.
  base::Status start();
  uint16_t port() const;

  // From now on new work is answered with 503 and `Connection: close`; probes and requests in
  // flight go on. Does not wait.
  void begin_drain();
  bool is_draining() const;
  size_t num_requests_in_flight() const;

  // begin_drain(), then waits until no request is in flight, at most `timeout`. True if all ended.
  bool drain(std::chrono::milliseconds timeout);

  // Ends what is left and joins all threads. Handlers must end when on_disconnect fires.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace beryl::http
