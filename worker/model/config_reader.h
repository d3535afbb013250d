// Typed, limited reading of one object of config.json. Every failure names file and key.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "worker/model/model_config.h"

namespace beryl::model {

class ConfigReader {
 public:
  // `prefix` is the path of the object inside the file, e.g. "text_config.". Both strings and the
  // object must outlive the reader.
  ConfigReader(const std::string& file, std::string prefix, const nlohmann::json& object)
      : file_(file), prefix_(std::move(prefix)), object_(object) {}

  int integer(std::string_view key, int min, int max) const;
  int integer_or(std::string_view key, int fallback, int min, int max) const;
  double number(std::string_view key, double min, double max) const;
  std::string text(std::string_view key) const;

  // The feature must be absent, null, or have this value.
  void require_value(std::string_view key, const nlohmann::json& value) const;
  // A text that must be one of `values`.
  void require_text(std::string_view key, std::initializer_list<std::string_view> values) const;

  ConfigReader object(std::string_view key) const;
  const nlohmann::json& array(std::string_view key) const;
  bool has(std::string_view key) const;  // present and not null
  const nlohmann::json& at(std::string_view key) const;

  [[noreturn]] void fail(std::string_view key, std::string_view expected,
                         std::string_view found) const;

 private:
  const std::string& file_;
  std::string prefix_;
  const nlohmann::json& object_;
};

}  // namespace beryl::model
