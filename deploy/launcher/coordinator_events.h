// What beryl-coordinator tells the launcher over --event-fd: one JSON object a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "parallel/base/expected.h"

namespace beryl::launcher {

struct ListeningEvent {
  uint16_t http_port = 0;
  uint16_t worker_port = 0;
};
struct GroupReadyEvent {
  uint32_t group = 0;
  uint64_t epoch = 0;
};
struct GroupLostEvent {
  uint32_t group = 0;
  uint64_t epoch = 0;
  std::string reason;
  std::vector<int64_t> pids;  // of its ranks, on whatever host they are
};
struct UnknownEvent {
  std::string name;  // of a newer coordinator: not an error
};
using CoordinatorEvent =
    std::variant<ListeningEvent, GroupReadyEvent, GroupLostEvent, UnknownEvent>;

base::Expected<CoordinatorEvent> parse_event(std::string_view line);

constexpr size_t kMaxEventLineBytes = 65'536;

// Cuts what was read from the pipe into lines.
class LineBuffer {
 public:
  // Complete lines, without their ends. A line above kMaxEventLineBytes is dropped.
  std::vector<std::string> append(std::string_view bytes);

 private:
  std::string pending_;
  bool skipping_ = false;  // the rest of a line that was too long
};

}  // namespace beryl::launcher
