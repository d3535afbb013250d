#include "coordinator/text/json_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "coordinator/text/json_reader.h"
#include "coordinator/text/utf8.h"

namespace beryl::text {
namespace {

using Kind = JsonValue::Kind;

auto find_member(auto& members, std::string_view key) {
  return std::find_if(members.begin(), members.end(),
                      [key](const auto& member) { return member.first == key; });
}

}  // namespace

const JsonValue* JsonValue::find(std::string_view key) const {
  const auto member = find_member(members, key);
  return member == members.end() ? nullptr : &member->second;
}

JsonValue* JsonValue::find(std::string_view key) {
  const auto member = find_member(members, key);
  return member == members.end() ? nullptr : &member->second;
}

void JsonValue::set(std::string_view key, JsonValue value) {
  if (JsonValue* const old = find(key)) {
    *old = std::move(value);
    return;
  }
  const std::string lower = to_lower(key);
  const auto place = std::find_if(members.begin(), members.end(), [&](const auto& member) {
    return to_lower(member.first) > lower;
  });
  members.emplace(place, std::string(key), std::move(value));
}

void JsonValue::erase(std::string_view key) {
  const auto member = find_member(members, key);
  if (member != members.end()) members.erase(member);
}

// Keys are lowered once, not in every comparison. Of keys that differ in case only, the first in
// the text comes first, as Python's sort is stable.
void JsonValue::sort_members() {
  std::unordered_map<std::string, size_t> places;
  size_t num_kept = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    const auto [place, is_new] = places.emplace(members[i].first, num_kept);
    if (place->second != i) members[place->second] = std::move(members[i]);
    if (is_new) ++num_kept;
  }
  members.resize(num_kept);
  std::vector<std::pair<std::string, size_t>> order;
  order.reserve(num_kept);
  for (size_t i = 0; i < num_kept; ++i) order.emplace_back(to_lower(members[i].first), i);
  std::sort(order.begin(), order.end());
  std::vector<std::pair<std::string, JsonValue>> sorted;
  sorted.reserve(num_kept);
  for (const auto& [lower, i] : order) sorted.push_back(std::move(members[i]));
  members = std::move(sorted);
}

bool JsonValue::is_truthy() const {
  switch (kind) {
    case Kind::kNull:
      return false;
    case Kind::kBool:
      return boolean;
    case Kind::kNumber:
      return text != "0" && text != "0.0" && text != "-0.0";
    case Kind::kString:
      return !text.empty();
    case Kind::kArray:
      return !items.empty();
    case Kind::kObject:
      return !members.empty();
  }
  return false;
}

JsonValue JsonValue::string(std::string_view text) {
  JsonValue value;
  value.kind = Kind::kString;
  value.text = text;
  return value;
}

JsonValue JsonValue::boolean_of(bool boolean) {
  JsonValue value;
  value.kind = Kind::kBool;
  value.boolean = boolean;
  return value;
}

JsonValue JsonValue::object() {
  JsonValue value;
  value.kind = Kind::kObject;
  return value;
}

base::Expected<JsonValue> parse_json_object(std::string_view json) {
  if (!is_valid_utf8(json)) return base::invalid_argument({}, "not valid UTF-8");
  if (trim(json).empty() || trim(json) == "null") return JsonValue{};
  JsonReader reader(json);
  JsonValue value;
  if (!reader.read(value)) {
    return base::invalid_argument(
        {}, fmt::format("not valid JSON at byte {}: {}", reader.position(), reader.error()));
  }
  if (!value.is(Kind::kObject)) return base::invalid_argument({}, "not a JSON object");
  return value;
}

}  // namespace beryl::text
