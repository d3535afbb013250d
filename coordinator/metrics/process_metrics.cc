#include "coordinator/metrics/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

namespace beryl::metrics {
namespace {

double resident_memory_bytes() {
  std::ifstream file("/proc/self/statm");
  double total_pages = 0;
  double resident_pages = 0;
  file >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double num_open_fds() {
  DIR* dir = opendir("/proc/self/fd");
  if (dir == nullptr) return 0;
  int count = 0;
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count - 3;  // ".", ".." and the directory itself
}

double max_fds() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

}  // namespace

void add_process_metrics(Registry& registry) {
  Gauge& memory =
      registry.gauge({"process_resident_memory_bytes", "Resident memory.", {}}).with({});
  Gauge& cpu = registry.gauge({"process_cpu_seconds_total", "CPU time used.", {}}).with({});
  Gauge& fds = registry.gauge({"process_open_fds", "Open file descriptors.", {}}).with({});
  Gauge& fd_limit = registry.gauge({"process_max_fds", "Limit of open files.", {}}).with({});
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  registry.gauge({"process_start_time_seconds", "Start, since the Unix epoch.", {}})
      .with({})
      .set(std::chrono::duration<double>(since_epoch).count());
  registry.add_collector([&memory, &cpu, &fds, &fd_limit] {
    memory.set(resident_memory_bytes());
    cpu.set(cpu_seconds());
    fds.set(num_open_fds());
    fd_limit.set(max_fds());
  });
}

}  // namespace beryl::metrics
