// beryl-decode-video: decodes one video of a stranger and ends. Started by the coordinator with the
// job as standard input (decoding_protocol.h); not for use by hand.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "coordinator/media/resize.h"
#include "coordinator/media/target_size.h"
#include "coordinator/media/video/container.h"
#include "coordinator/media/video/frame_decoder.h"
#include "coordinator/media/video/refused.h"
#include "coordinator/media/video/sandbox.h"

namespace beryl::media {
namespace {

// The coordinator has gone, or does not want more.
constexpr int kExitNoReader = 3;
constexpr int kExitNoJob = 2;

void write_all(const void* data, size_t num_bytes) {
  const char* from = static_cast<const char*>(data);
  while (num_bytes > 0) {
    const ssize_t count = write(STDOUT_FILENO, from, num_bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) _exit(kExitNoReader);
    from += count;
    num_bytes -= static_cast<size_t>(count);
  }
}

void write_frame(double timestamp_s, RgbImage image, uint32_t budget) {
  const auto size = target_size({image.width, image.height}, budget);
  if (!size) throw Refused{Refusal::kDamaged};
  const RgbImage resized = resize_bicubic(std::move(image), *size);
  FrameHead head;
  head.width = resized.width;
  head.height = resized.height;
  head.timestamp_s = timestamp_s;
  write_all(&head, sizeof head);
  write_all(resized.pixels.data(), resized.pixels.size());
}

void write_end(Refusal refusal, uint64_t value) {
  FrameHead head;
  head.is_last = 1;
  head.refusal = refusal;
  head.value = value;
  write_all(&head, sizeof head);
}

void check_length(const Container& container, const FramePlan& plan,
                  const std::vector<CodedFrame>& frames, uint32_t max_seconds) {
  double seconds = plan.num_shown / container.fps();
  if (plan.has_times) {
    int64_t last = plan.first_time;
    for (const CodedFrame& frame : frames) {
      if (frame.is_shown) last = std::max(last, frame.time);
    }
    seconds = container.seconds(last) - container.seconds(plan.first_time);
  }
  if (!(seconds <= max_seconds)) {
    throw Refused{Refusal::kTooLong, static_cast<uint64_t>(std::min(seconds, 1e15))};
  }
}

void decode(std::string_view bytes, const DecodingJob& job) {
  Container listed(bytes, job);
  const std::vector<CodedFrame> frames = listed.list_frames();
  const FramePlan plan = plan_frames(frames, {job.num_frames, job.fps}, listed.fps());
  if (plan.num_shown == 0) throw Refused{Refusal::kNoPictures};
  check_length(listed, plan, frames, job.max_seconds);
  // Read from the start by a reader of its own: not every format can go back.
  Container container(bytes, job);
  FrameDecoder decoder(container, plan, job, [&](double timestamp_s, RgbImage image) {
    write_frame(timestamp_s, std::move(image), job.budget);
  });
  decoder.run();
}

int run() {
  struct stat status = {};
  if (fstat(STDIN_FILENO, &status) != 0 || !S_ISREG(status.st_mode)) return kExitNoJob;
  const auto size = static_cast<size_t>(status.st_size);
  if (size < sizeof(DecodingJob)) return kExitNoJob;
  void* const mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
  if (mapped == MAP_FAILED) return kExitNoJob;
  DecodingJob job;
  std::memcpy(&job, mapped, sizeof job);
  if (job.protocol != kDecodingProtocol) return kExitNoJob;
  av_log_set_level(AV_LOG_QUIET);
  Refused refused{Refusal::kNone};
  try {
    if (!enter_sandbox({job.max_memory_bytes, job.max_cpu_s})) throw Refused{Refusal::kNoSandbox};
    decode({static_cast<const char*>(mapped) + sizeof job, size - sizeof job}, job);
  } catch (const Refused& caught) {
    refused = caught;
  } catch (const std::bad_alloc&) {
    refused = {Refusal::kMemory};
  }
  write_end(refused.refusal, refused.value);
  return 0;
}

}  // namespace
}  // namespace beryl::media

int main() {
  // Without destructors and exit handlers: there is nothing to save.
  _exit(beryl::media::run());
}
