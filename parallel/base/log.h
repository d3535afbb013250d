// One logger per process, made in main and passed by reference. Lines are for people ("what
// happened, what to do"), or one JSON object a line with --log-format json.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace beryl::base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

// Thread-safe. Writes to stderr, so that stdout stays for results.
class Logger {
 public:
  // `component` appears in each line, e.g. "coordinator" or "worker 1".
  Logger(std::string component, LogLevel level = LogLevel::kInfo,
         LogFormat format = LogFormat::kText);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  template <typename... Args>
  void debug(fmt::format_string<Args...> text, Args&&... args) {
    if (enabled(LogLevel::kDebug))
      write(LogLevel::kDebug, fmt::format(text, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void info(fmt::format_string<Args...> text, Args&&... args) {
    if (enabled(LogLevel::kInfo))
      write(LogLevel::kInfo, fmt::format(text, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void warning(fmt::format_string<Args...> text, Args&&... args) {
    if (enabled(LogLevel::kWarning))
      write(LogLevel::kWarning, fmt::format(text, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void error(fmt::format_string<Args...> text, Args&&... args) {
    write(LogLevel::kError, fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  bool enabled(LogLevel level) const;
  void write(LogLevel level, std::string_view line);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace beryl::base
