#include "worker/service/bulk_session.h"

#include <utility>

#include "parallel/wire/greet.h"
#include "parallel/wire/limits.h"
#include "parallel/wire/validate_bulk.h"

namespace beryl::service {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kDialDeadline{5'000};
constexpr milliseconds kWaitSlice{200};
// For the rest of a picture whose first bytes are here.
constexpr milliseconds kPictureDeadline{30'000};

}  // namespace

base::Expected<std::unique_ptr<BulkSession>> BulkSession::open(const Registration& registration,
                                                               const wire::Secret& secret,
                                                               engine::PictureStore& store,
                                                               OnEnd on_end) {
  auto connection = wire::Connection::dial(registration.coordinator, kDialDeadline);
  if (!connection) return connection.error();
  if (auto status = wire::greet(*connection, secret, registration.who); !status) {
    return status.error();
  }
  return std::unique_ptr<BulkSession>(
      new BulkSession(*std::move(connection), registration.limits, store, std::move(on_end)));
}

BulkSession::BulkSession(wire::Connection connection, const wire::GroupLimits& limits,
                         engine::PictureStore& store, OnEnd on_end)
    : connection_(std::move(connection)),
      limits_(limits),
      store_(store),
      on_end_(std::move(on_end)) {
  reader_ = std::thread([this] {
    const SessionEnd end = receive_all();
    if (!leaving_.load()) on_end_(end);
  });
}

BulkSession::~BulkSession() {
  leaving_.store(true);
  store_.close();
  connection_.shut_down();
  reader_.join();
}

SessionEnd BulkSession::receive_all() {
  while (!leaving_.load()) {
    // Silence is no fault here: the first connection has the heartbeats.
    if (!connection_.wait_readable(kWaitSlice)) continue;
    auto frame = connection_.receive(wire::kMaxPictureFrameBytes, kPictureDeadline);
    if (!frame) return {false, "lost the connection for pictures: " + frame.error().message};
    if (frame->has_goodbye()) return {true, wire::clean_reason(frame->goodbye().reason())};
    if (frame->has_reject()) return {false, wire::clean_reason(frame->reject().reason())};
    if (auto status = take(*std::move(frame)); !status) return {false, status.error().message};
  }
  return {};
}

base::Status BulkSession::take(wire::Frame frame) {
  if (!frame.has_picture()) {
    return base::invalid_argument("pictures", "the coordinator sent something that is no picture");
  }
  wire::Picture& picture = *frame.mutable_picture();
  if (auto status = wire::validate(picture, limits_); !status) return status;
  return store_.add(engine::picture_key(picture.key()),
                    {.height = static_cast<int>(picture.height()),
                     .width = static_cast<int>(picture.width()),
                     .pixels = std::move(*picture.mutable_pixels())});
}

}  // namespace beryl::service
