#include "coordinator/cluster/event_log.h"

#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace beryl::cluster {

using nlohmann::json;

void EventLog::write_line(const std::string& text) {
  if (fd_ < 0) return;
  const std::string line = text + "\n";
  const std::lock_guard lock(mutex_);
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t n = ::write(fd_, line.data() + written, line.size() - written);
    if (n > 0) {
      written += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      return;  // the launcher is gone or does not read: serving goes on without it
    }
  }
}

void EventLog::listening(uint16_t http_port, uint16_t worker_port) {
  write_line(
      json{{"event", "listening"}, {"http_port", http_port}, {"worker_port", worker_port}}.dump());
}

void EventLog::group_ready(uint32_t group, uint64_t epoch, int64_t rebuilt_ms) {
  json event{{"event", "group_ready"}, {"group", group}, {"epoch", epoch}};
  if (rebuilt_ms >= 0) event["rebuilt_ms"] = rebuilt_ms;
  write_line(event.dump());
}

void EventLog::group_lost(const GroupLoss& loss) {
  write_line(json{{"event", "group_lost"},
                  {"group", loss.group},
                  {"epoch", loss.epoch},
                  {"reason", loss.reason},
                  {"pids", loss.pids},
                  {"detected_ms", loss.detected_ms}}
                 .dump(-1, ' ', false, json::error_handler_t::replace));
}

void EventLog::group_serving(uint32_t group, uint64_t epoch, int64_t first_token_ms) {
  write_line(json{{"event", "group_serving"},
                  {"group", group},
                  {"epoch", epoch},
                  {"first_token_ms", first_token_ms}}
                 .dump());
}

void EventLog::draining() {
  write_line(json{{"event", "draining"}}.dump());
}

}  // namespace beryl::cluster
