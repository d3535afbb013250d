#include "deploy/launcher/process_table.h"

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace beryl::launcher {
namespace {

bool has_entry(const std::string& environment, const std::string& entry) {
  size_t at = 0;
  while ((at = environment.find(entry, at)) != std::string::npos) {
    const size_t end = at + entry.size();
    const bool starts = at == 0 || environment[at - 1] == '\0';
    const bool ends = end == environment.size() || environment[end] == '\0';
    if (starts && ends) return true;
    at = end;
  }
  return false;
}

}  // namespace

std::vector<pid_t> find_marked_processes(const std::string& variable, const std::string& value) {
  const std::string entry = variable + "=" + value;
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = folder.path().filename();
    pid_t pid = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failure != std::errc() || end != name.data() + name.size() || pid == getpid()) continue;
    // A zombie's environment reads as empty, another user's cannot be opened.
    std::ifstream file(folder.path() / "environ", std::ios::binary);
    const std::string environment((std::istreambuf_iterator<char>(file)), {});
    if (has_entry(environment, entry)) found.push_back(pid);
  }
  return found;
}

int kill_marked_processes(const std::string& variable, const std::string& value) {
  int killed = 0;
  for (int round = 0; round < kSweepRounds; ++round) {
    const std::vector<pid_t> found = find_marked_processes(variable, value);
    if (found.empty()) break;
    if (round == 0) killed = static_cast<int>(found.size());
    for (const pid_t pid : found) kill(pid, SIGKILL);
    usleep(10'000);  // freeing the memory of a large process takes a moment
  }
  return killed;
}

}  // namespace beryl::launcher
