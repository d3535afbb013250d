// Stands in for beryl-decode-video and does what a taken-over one might. The "video" names the
// deed.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "coordinator/media/video/decoding_protocol.h"
#include "coordinator/media/video/sandbox.h"

namespace beryl::media {
namespace {

void put(const FrameHead& head) {
  (void)!write(STDOUT_FILENO, &head, sizeof head);
}

// How many of the things a decoder must not do are possible. The number goes back as an answer.
uint64_t count_freedoms() {
  uint64_t count = 0;
  count += open("/etc/passwd", O_RDONLY) >= 0 ? 1 : 0;
  count += socket(AF_INET, SOCK_STREAM, 0) >= 0 ? 1 : 0;
  count += kill(getppid(), 0) == 0 ? 1 : 0;
  count += mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) != MAP_FAILED
               ? 1
               : 0;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  count += child > 0 ? 1 : 0;
  return count;
}

void report_freedoms() {
  FrameHead head;
  head.is_last = 1;
  head.refusal = Refusal::kTooManyPixels;
  head.value = count_freedoms();
  put(head);
}

void eat_memory() {
  std::vector<std::string> eaten;
  for (;;) eaten.emplace_back(size_t{16} << 20U, 'x');
}

void spin() {
  volatile bool goes_on = true;
  while (goes_on) {
  }
}

void lie(FrameHead head) {
  put(head);
  pause();
}

void flood() {
  const std::string pixels(size_t{48} * 48 * 3, 'x');
  for (;;) {
    put({.width = 48, .height = 48});
    if (write(STDOUT_FILENO, pixels.data(), pixels.size()) < 0) return;
  }
}

void act(const std::string& deed, const DecodingJob& job) {
  const SandboxLimits limits{job.max_memory_bytes, job.max_cpu_s};
  if (deed == "free") return report_freedoms();
  if (!enter_sandbox(limits)) _exit(9);
  if (deed == "confined") return report_freedoms();
  if (deed == "hang") {
    for (;;) pause();
  }
  if (deed == "spin") return spin();
  if (deed == "eat") return eat_memory();
  if (deed == "crash") std::abort();
  if (deed == "silent") return;
  if (deed == "huge") return lie({.width = 0xfffffff0, .height = 0xfffffff0});
  if (deed == "odd") return lie({.width = 50, .height = 48});
  if (deed == "nan") return lie({.width = 48, .height = 48, .timestamp_s = __builtin_nan("")});
  if (deed == "short") return put({.width = 480, .height = 48});
  if (deed == "flood") return flood();
  _exit(8);
}

}  // namespace
}  // namespace beryl::media

int main() {
  struct stat status = {};
  fstat(STDIN_FILENO, &status);
  std::string input(static_cast<size_t>(status.st_size), '\0');
  (void)!read(STDIN_FILENO, input.data(), input.size());
  beryl::media::DecodingJob job;
  std::memcpy(&job, input.data(), sizeof job);
  beryl::media::act(input.substr(sizeof job), job);
  _exit(0);
}
