#include "bench/process_usage.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace beryl::bench {

std::optional<ProcessUsage> process_usage(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  // Field 2 is the program's name in parentheses and may hold anything; the rest follows the last
  // ')'.
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  constexpr int kFirstField = 3;
  constexpr int kUserTime = 14;
  constexpr int kSystemTime = 15;
  constexpr int kResidentPages = 24;
  ProcessUsage usage;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  for (int i = kFirstField; i <= kResidentPages && fields >> field; ++i) {
    if (i == kUserTime || i == kSystemTime) usage.cpu_seconds += std::stod(field) / ticks;
    if (i == kResidentPages) {
      usage.resident_bytes = std::stoull(field) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    }
  }
  return usage;
}

}  // namespace beryl::bench
