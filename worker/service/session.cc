#include "worker/service/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "parallel/wire/greet.h"
#include "parallel/wire/limits.h"

namespace beryl::service {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kFirstRedial{100};
constexpr milliseconds kLongestRedial{2'000};
constexpr milliseconds kDialDeadline{5'000};
constexpr milliseconds kWaitSlice{200};
constexpr milliseconds kGoodbyeDeadline{500};

base::Expected<wire::Connection> dial(const SessionOptions& options, base::Logger& log) {
  const Clock::time_point until = Clock::now() + options.connect_deadline;
  milliseconds pause = kFirstRedial;
  bool said = false;
  while (true) {
    auto connection = wire::Connection::dial(options.coordinator, kDialDeadline);
    if (connection || Clock::now() + pause >= until) return connection;
    if (!said) {
      log.info("waiting for the coordinator at {}:{} ({})", options.coordinator.host,
               options.coordinator.port, connection.error().message);
    }
    said = true;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestRedial);
  }
}

}  // namespace

Session::Session(wire::Connection connection, base::Logger& log)
    : connection_(std::move(connection)), log_(log) {}

Session::~Session() {
  close_with({false, "the session was dropped"});
  leave();
  if (reader_.joinable()) reader_.join();
  if (heartbeat_.joinable()) heartbeat_.join();
}

base::Expected<std::unique_ptr<Session>> Session::open(const SessionOptions& options,
                                                       const wire::Secret& secret,
                                                       const wire::Registration& registration,
                                                       base::Logger& log) {
  auto connection = dial(options, log);
  if (!connection) return connection.error();
  std::unique_ptr<Session> session(new Session(*std::move(connection), log));
  if (auto status = wire::greet(session->connection_, secret, registration); !status) {
    return status.error();
  }
  return session;
}

void Session::send_heartbeat(milliseconds deadline) {
  wire::Frame frame;
  frame.mutable_heartbeat()->set_epoch(welcome_.epoch());
  frame.mutable_heartbeat()->set_last_step(last_step_.load());
  const auto status = connection_.send(frame, wire::kMaxHandshakeFrameBytes, deadline);
  if (!status) close_with({false, "lost the coordinator: " + status.error().message});
}

base::Expected<wire::Welcome> Session::wait_for_welcome() {
  Clock::time_point last_heard = Clock::now();
  Clock::time_point next_heartbeat = Clock::now() + wire::kWaitingHeartbeatInterval;
  while (!is_over()) {
    if (Clock::now() >= next_heartbeat) {
      send_heartbeat(wire::kWaitingHeartbeatDeadline);
      next_heartbeat = Clock::now() + wire::kWaitingHeartbeatInterval;
    }
    if (!connection_.wait_readable(kWaitSlice)) {
      if (Clock::now() - last_heard < wire::kWaitingHeartbeatDeadline) continue;
      close_with({false, "the coordinator is silent"});
      break;
    }
    auto frame =
        connection_.receive(wire::kMaxHandshakeFrameBytes, wire::kWaitingHeartbeatDeadline);
    if (!frame) {
      close_with({false, "lost the coordinator: " + frame.error().message});
      break;
    }
    last_heard = Clock::now();
    if (frame->has_heartbeat()) continue;
    if (frame->has_welcome() && wire::validate(frame->welcome())) {
      welcome_ = frame->welcome();
      return welcome_;
    }
    close_with({false, frame->has_reject() ? "the coordinator refused: " +
                                                 wire::clean_reason(frame->reject().reason())
                                           : "the coordinator sent something unexpected"});
  }
  return base::Error{base::ErrorCode::kUnavailable, ended().reason, "session", {}};
}

void Session::start(Hooks hooks) {
  bool ended_before = false;  // between the welcome and now
  {
    const std::lock_guard lock(mutex_);
    hooks_ = std::move(hooks);
    ended_before = is_over();
  }
  if (ended_before && hooks_.on_end) hooks_.on_end();
  reader_ = std::thread([this] { read_loop(); });
  heartbeat_ = std::thread([this] { heartbeat_loop(); });
}

void Session::leave() {
  const std::lock_guard lock(mutex_);
  left_ = true;
  ended_changed_.notify_all();
}

base::Status Session::send_result(const wire::StepResult& result) {
  wire::Frame frame;
  *frame.mutable_result() = result;
  const auto status = connection_.send(frame, wire::kMaxResultFrameBytes,
                                       milliseconds(welcome_.heartbeat_deadline_ms()));
  if (status) {
    last_step_.store(result.step());
  } else {
    close_with({false, "lost the coordinator: " + status.error().message});
  }
  return status;
}

void Session::read_loop() {
  const milliseconds silence(welcome_.heartbeat_deadline_ms());
  while (!is_over()) {
    auto frame = connection_.receive(wire::kMaxPlanFrameBytes, silence);
    if (!frame) {
      close_with({false, "lost the coordinator: " + frame.error().message});
      return;
    }
    handle(*std::move(frame));
  }
}

void Session::handle(wire::Frame frame) {
  if (frame.has_plan()) {
    if (!plans_.push(std::move(*frame.mutable_plan()))) {
      end({false, "the coordinator sent more plans than it may have in flight"});
    }
  } else if (frame.has_goodbye()) {
    close_with({true, wire::clean_reason(frame.goodbye().reason())});
  } else if (frame.has_reject()) {
    close_with({false, wire::clean_reason(frame.reject().reason())});
  } else if (!frame.has_heartbeat()) {
    end({false, "the coordinator sent something unexpected"});
  }
}

void Session::heartbeat_loop() {
  const milliseconds interval(welcome_.heartbeat_interval_ms());
  while (!is_over()) {
    send_heartbeat(milliseconds(welcome_.heartbeat_deadline_ms()));
    std::unique_lock lock(mutex_);
    ended_changed_.wait_for(lock, interval, [this] { return is_over(); });
  }
  std::unique_lock lock(mutex_);
  const bool left = ended_changed_.wait_for(lock, kStuckGrace, [this] { return left_; });
  if (!left && hooks_.on_stuck) hooks_.on_stuck();
}

void Session::end(const SessionEnd& end) {
  if (is_over()) return;
  wire::Frame frame;
  frame.mutable_goodbye()->set_reason(wire::clean_reason(end.reason));
  (void)connection_.send(frame, wire::kMaxHandshakeFrameBytes, kGoodbyeDeadline);
  close_with(end);
}

void Session::close_with(SessionEnd end) {
  std::function<void()> on_end;
  {
    const std::lock_guard lock(mutex_);
    if (is_over()) return;
    end_ = std::move(end);
    over_.store(true, std::memory_order_release);
    on_end = hooks_.on_end;
    ended_changed_.notify_all();
  }
  plans_.close();
  connection_.shut_down();
  if (on_end) on_end();
}

SessionEnd Session::ended() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

}  // namespace beryl::service
