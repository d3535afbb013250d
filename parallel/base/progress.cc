#include "parallel/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

namespace beryl::base {

namespace {

constexpr int kBarCells = 30;
constexpr std::chrono::seconds kPlainLineInterval{2};

std::string progress_text(const std::string& label, const ProgressState& state) {
  return fmt::format(
      "{} {} / {} ({:.0f} %), {}/s", label, format_bytes(static_cast<double>(state.done_bytes)),
      format_bytes(static_cast<double>(state.total_bytes)),
      state.total_bytes == 0
          ? 100.0
          : 100.0 * static_cast<double>(state.done_bytes) / static_cast<double>(state.total_bytes),
      format_bytes(state.bytes_per_s));
}

std::string bar(const ProgressState& state) {
  const double share = state.total_bytes == 0 ? 1.0
                                              : static_cast<double>(state.done_bytes) /
                                                    static_cast<double>(state.total_bytes);
  const int filled = std::clamp(static_cast<int>(share * kBarCells), 0, kBarCells);
  return fmt::format("[{:#>{}}{:.>{}}]", "", filled, "", kBarCells - filled);
}

}  // namespace

Progress::Progress(size_t total_bytes, ProgressListener listener,
                   std::chrono::milliseconds interval)
    : total_bytes_(total_bytes),
      listener_(std::move(listener)),
      interval_(interval),
      start_(Clock::now()),
      last_report_(start_) {}

ProgressState Progress::state(Clock::time_point now, bool finished) const {
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const size_t done = done_bytes_.load(std::memory_order_relaxed);
  return {.done_bytes = done,
          .total_bytes = total_bytes_,
          .bytes_per_s = seconds > 0 ? static_cast<double>(done) / seconds : 0,
          .finished = finished};
}

void Progress::add(size_t num_bytes) {
  done_bytes_.fetch_add(num_bytes, std::memory_order_relaxed);
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  const auto now = Clock::now();
  if (now - last_report_ < interval_) return;
  last_report_ = now;
  if (listener_) listener_(state(now, false));
}

void Progress::finish() {
  const std::scoped_lock lock(mutex_);
  if (listener_) listener_(state(Clock::now(), true));
}

ProgressListener terminal_progress(std::string label, std::FILE* stream) {
  const bool is_terminal = isatty(fileno(stream)) == 1;
  auto last_line =
      std::make_shared<std::chrono::steady_clock::time_point>(std::chrono::steady_clock::now());
  return [label = std::move(label), stream, is_terminal, last_line](const ProgressState& state) {
    const std::string text = progress_text(label, state);
    if (is_terminal) {
      fmt::print(stream, "\r{} {}\x1b[K{}", bar(state), text, state.finished ? "\n" : "");
      std::fflush(stream);
      return;
    }
    const auto now = std::chrono::steady_clock::now();
    if (!state.finished && now - *last_line < kPlainLineInterval) return;
    *last_line = now;
    fmt::print(stream, "{}\n", text);
  };
}

std::string format_bytes(double num_bytes) {
  constexpr std::array kUnits = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (num_bytes >= 1000 && unit + 1 < kUnits.size()) {
    num_bytes /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", num_bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

}  // namespace beryl::base
