#include "worker/model/config_reader.h"

#include <fmt/format.h>

#include <cstdint>

#include "parallel/base/printable.h"

namespace beryl::model {

using nlohmann::json;

namespace {

std::string shown(const json& value) {
  return base::printable(value.dump(-1, ' ', true, json::error_handler_t::replace));
}

// Floats are refused even where they have no fraction.
bool as_integer(const json& value, int64_t* out) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > INT32_MAX) return false;
    *out = static_cast<int64_t>(number);
    return true;
  }
  if (!value.is_number_integer()) return false;
  *out = value.get<int64_t>();
  return true;
}

}  // namespace

void ConfigReader::fail(std::string_view key, std::string_view expected,
                        std::string_view found) const {
  throw ConfigError(
      fmt::format("{}: {}{}: expected {}, found {}", file_, prefix_, key, expected, found));
}

bool ConfigReader::has(std::string_view key) const {
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

const json& ConfigReader::at(std::string_view key) const {
  if (!has(key)) fail(key, "a value", object_.contains(key) ? "null" : "nothing");
  return *object_.find(key);
}

int ConfigReader::integer(std::string_view key, int min, int max) const {
  const json& value = at(key);
  int64_t number = 0;
  if (!as_integer(value, &number) || number < min || number > max) {
    fail(key, fmt::format("an integer from {} to {}", min, max), shown(value));
  }
  return static_cast<int>(number);
}

int ConfigReader::integer_or(std::string_view key, int fallback, int min, int max) const {
  return has(key) ? integer(key, min, max) : fallback;
}

double ConfigReader::number(std::string_view key, double min, double max) const {
  const json& value = at(key);
  if (!value.is_number() || !(value.get<double>() >= min) || !(value.get<double>() <= max)) {
    fail(key, fmt::format("a number from {} to {}", min, max), shown(value));
  }
  return value.get<double>();
}

std::string ConfigReader::text(std::string_view key) const {
  const json& value = at(key);
  if (!value.is_string()) fail(key, "a string", shown(value));
  return value.get<std::string>();
}

void ConfigReader::require_value(std::string_view key, const json& expected) const {
  if (!has(key)) return;
  if (at(key) != expected)
    fail(key, shown(expected) + " (nothing else is supported)", shown(at(key)));
}

void ConfigReader::require_text(std::string_view key,
                                std::initializer_list<std::string_view> values) const {
  const std::string found = text(key);
  for (const std::string_view value : values) {
    if (found == value) return;
  }
  fail(key, fmt::format("\"{}\" (nothing else is supported)", fmt::join(values, "\" or \"")),
       shown(at(key)));
}

ConfigReader ConfigReader::object(std::string_view key) const {
  const json& value = at(key);
  if (!value.is_object()) fail(key, "an object", shown(value));
  return {file_, fmt::format("{}{}.", prefix_, key), value};
}

const json& ConfigReader::array(std::string_view key) const {
  const json& value = at(key);
  if (!value.is_array()) fail(key, "an array", shown(value));
  return value;
}

}  // namespace beryl::model
