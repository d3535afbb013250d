#include "parallel/wire/mock_pictures.h"

#include <string>

#include "parallel/wire/greet.h"
#include "parallel/wire/limits.h"
#include "parallel/wire/validate_bulk.h"

namespace beryl::wire {
namespace {

constexpr Connection::Milliseconds kPictureDeadline{5'000};

base::Error failed(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "pictures", {}};
}

}  // namespace

base::Status MockPictures::open(const Endpoint& coordinator, const Secret& secret,
                                const BulkRegistration& registration, const GroupLimits& limits) {
  limits_ = limits;
  auto connection = Connection::dial(coordinator, kHandshakeDeadline);
  if (!connection) return connection.error();
  connection_.emplace(*std::move(connection));
  return greet(*connection_, secret, registration);
}

base::Status MockPictures::take_picture(Connection::Milliseconds deadline) {
  const auto frame = connection_->receive(kMaxPictureFrameBytes, deadline);
  if (!frame) return frame.error();
  if (frame->has_reject()) return failed(frame->reject().reason());
  if (frame->has_goodbye()) return failed("goodbye: " + frame->goodbye().reason());
  if (!frame->has_picture()) return failed("expected a picture");
  if (auto status = validate(frame->picture(), limits_); !status) return status;
  if (!arrived_.insert(key_of(frame->picture().key())).second) return failed("a picture twice");
  ++num_pictures_;
  return base::Status::ok();
}

base::Status MockPictures::poll() {
  while (connection_ && connection_->wait_readable(Connection::Milliseconds(0))) {
    if (auto status = take_picture(kPictureDeadline); !status) return status;
  }
  return base::Status::ok();
}

base::Status MockPictures::wait_for(const Key& key) {
  while (!arrived_.contains(key)) {
    if (!connection_) return failed("a picture without a second connection");
    if (auto status = take_picture(kPictureDeadline); !status) return status;
  }
  return base::Status::ok();
}

base::Status MockPictures::execute(const StepPlan& plan, uint32_t rank) {
  for (const PictureKey& key : plan.feature_drops()) {
    if (kept_.erase(key_of(key)) == 0) return failed("features are dropped that are not there");
  }
  std::set<Key> encoded;
  for (const FeatureJob& job : plan.feature_jobs()) {
    const Key key = key_of(job.key());
    if (job.source() == rank && job.encode()) {
      if (auto status = wait_for(key); !status) return status;
      encoded.insert(key);
    } else if (job.source() == rank && !kept_.contains(key)) {
      return failed("features are to be sent that are not there");
    }
    if (job.destination() == rank && !kept_.insert(key).second) {
      return failed("features come that are there already");
    }
  }
  for (const Key& key : encoded) arrived_.erase(key);
  return base::Status::ok();
}

}  // namespace beryl::wire
