// Every limit of the HTTP layer, with its default. What reaches one is counted in
// beryl_http_limit_reached_total or beryl_http_rejected_total.
#pragma once

#include <chrono>
#include <cstddef>

namespace beryl::http {

constexpr size_t kKiB = 1024;
constexpr size_t kMiB = 1024 * kKiB;

struct Limits {
  // Request head.
  size_t max_header_bytes = 32 * kKiB;  // request line included
  size_t max_num_headers = 100;
  size_t max_target_bytes = 8 * kKiB;

  // Request body. Routes name their own limit; this one holds where they do not.
  size_t default_body_bytes = 1 * kMiB;
  size_t max_body_bytes_in_flight = 512 * kMiB;  // of all connections together
  size_t max_num_chunks = 65'536;
  size_t max_trailer_bytes = 8 * kKiB;  // read and dropped

  // Time. Checked every kTickInterval.
  std::chrono::milliseconds header_timeout{10'000};  // from the first byte of a head
  std::chrono::milliseconds idle_timeout{75'000};    // between requests
  std::chrono::milliseconds body_grace{10'000};      // after it a body must keep its rate
  size_t min_body_bytes_per_s = 10 * kKiB;
  std::chrono::milliseconds write_stall{30'000};  // one write must end within this
  size_t min_write_bytes_per_s = 10 * kKiB;       // longer answers get more time
  std::chrono::milliseconds linger{2'000};        // reading on after an early answer
  size_t linger_bytes = 1 * kMiB;

  // Connections.
  size_t max_connections = 10'000;
  size_t max_connections_per_address = 5'000;  // an IPv6 /64 counts as one
  size_t read_ahead_bytes = 64 * kKiB;         // pipelined input kept while a request is handled

  // Streams: bytes not yet given to the kernel.
  size_t stream_soft_bytes = 64 * kKiB;                    // above: the producer waits and merges
  size_t stream_hard_bytes = 1 * kMiB;                     // above: the stream is cut
  std::chrono::milliseconds stream_ping_interval{15'000};  // comment line when nothing else is sent
  int send_buffer_bytes = 0;                               // SO_SNDBUF; 0: the kernel's choice

  // Pool for parsing and tokenizing.
  size_t max_queued_jobs = 4'096;
  // Pool for downloads and pictures.
  size_t max_queued_slow_jobs = 256;
};

constexpr std::chrono::milliseconds kTickInterval{100};

constexpr std::chrono::milliseconds time_at_rate(size_t bytes, size_t bytes_per_s) {
  return std::chrono::milliseconds(bytes * 1000 / bytes_per_s);
}

}  // namespace beryl::http
