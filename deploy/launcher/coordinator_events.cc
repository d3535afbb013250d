#include "deploy/launcher/coordinator_events.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace beryl::launcher {
namespace {

using Json = nlohmann::json;

// A non-negative integer of `object`, or 0 when it is missing, of another type or too large.
template <typename T>
T number(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_unsigned()) return 0;
  const uint64_t value = found->get<uint64_t>();
  return value <= std::numeric_limits<T>::max() ? static_cast<T>(value) : T{0};
}

GroupLostEvent group_lost(const Json& object) {
  GroupLostEvent event{
      number<uint32_t>(object, "group"), number<uint64_t>(object, "epoch"), {}, {}};
  const auto reason = object.find("reason");
  if (reason != object.end() && reason->is_string()) event.reason = reason->get<std::string>();
  const auto pids = object.find("pids");
  if (pids != object.end() && pids->is_array()) {
    for (const Json& pid : *pids) {
      if (pid.is_number_integer()) event.pids.push_back(pid.get<int64_t>());
    }
  }
  return event;
}

}  // namespace

base::Expected<CoordinatorEvent> parse_event(std::string_view line) {
  const Json object = Json::parse(line, nullptr, false);
  const auto name = object.is_object() ? object.find("event") : object.end();
  if (!object.is_object() || name == object.end() || !name->is_string()) {
    return base::invalid_argument("event", fmt::format("not an event: {}", line.substr(0, 200)));
  }
  if (*name == "listening") {
    const ListeningEvent event{number<uint16_t>(object, "http_port"),
                               number<uint16_t>(object, "worker_port")};
    if (event.http_port == 0 || event.worker_port == 0) {
      return base::invalid_argument("event", "a listening event without ports");
    }
    return CoordinatorEvent(event);
  }
  if (*name == "group_ready") {
    return CoordinatorEvent(
        GroupReadyEvent{number<uint32_t>(object, "group"), number<uint64_t>(object, "epoch")});
  }
  if (*name == "group_lost") return CoordinatorEvent(group_lost(object));
  return CoordinatorEvent(UnknownEvent{name->get<std::string>()});
}

std::vector<std::string> LineBuffer::append(std::string_view bytes) {
  std::vector<std::string> lines;
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    if (!skipping_) pending_ += part;
    if (pending_.size() > kMaxEventLineBytes) {
      pending_.clear();
      skipping_ = true;
    }
    if (end == std::string_view::npos) break;
    if (!skipping_) lines.push_back(std::move(pending_));
    pending_.clear();
    skipping_ = false;
    bytes.remove_prefix(end + 1);
  }
  return lines;
}

}  // namespace beryl::launcher
