#include "parallel/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace beryl::base {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// The text of a JSON string, quotes not included.
std::string json_escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

struct Logger::Impl {
  spdlog::logger logger;
  LogFormat format;
};

Logger::Logger(std::string component, LogLevel level, LogFormat format)
    : impl_(new Impl{
          spdlog::logger(component, std::make_shared<spdlog::sinks::stderr_color_sink_mt>()),
          format}) {
  impl_->logger.set_level(to_spdlog(level));
  impl_->logger.set_pattern(
      format == LogFormat::kJson
          ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","component":"%n","message":"%v"})"
          : "%H:%M:%S.%e %^%-7l%$ %n: %v");
  impl_->logger.flush_on(spdlog::level::debug);
}

Logger::~Logger() = default;

bool Logger::enabled(LogLevel level) const {
  return impl_->logger.should_log(to_spdlog(level));
}

void Logger::write(LogLevel level, std::string_view line) {
  if (impl_->format == LogFormat::kJson) {
    impl_->logger.log(to_spdlog(level), json_escaped(line));
  } else {
    impl_->logger.log(to_spdlog(level), line);
  }
}

}  // namespace beryl::base
