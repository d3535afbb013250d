// CPU time and memory of other processes, read from /proc: a benchmark that shares its machine with
// the server under test must state both shares.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace beryl::bench {

struct ProcessUsage {
  double cpu_seconds = 0;  // user and system, all threads
  uint64_t resident_bytes = 0;
};

// Nothing if there is no such process.
std::optional<ProcessUsage> process_usage(pid_t pid);

}  // namespace beryl::bench
