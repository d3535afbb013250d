#include "parallel/wire/handshake.h"

#include <fmt/format.h>

#include <utility>

#include "parallel/wire/auth.h"
#include "parallel/wire/limits.h"
#include "parallel/wire/validate.h"
#include "parallel/wire/validate_bulk.h"

namespace beryl::wire {
namespace {

base::Error protocol_error(std::string message) {
  return base::Error{base::ErrorCode::kInvalidArgument, std::move(message), "handshake", {}};
}

base::Error wrong_secret(const char* who) {
  return base::Error{base::ErrorCode::kUnauthenticated,
                     fmt::format("the {} does not know this cluster's secret", who),
                     "secret",
                     {}};
}

base::Status check_version(uint32_t version) {
  if (version == kProtocolVersion) return base::Status::ok();
  return protocol_error(fmt::format(
      "protocol version {} on the other side, {} here: coordinator and workers must be of one "
      "release",
      version, kProtocolVersion));
}

}  // namespace

Frame reject_frame(const std::string& reason) {
  Frame frame;
  frame.mutable_reject()->set_reason(clean_reason(reason));
  return frame;
}

WorkerHandshake::WorkerHandshake(const Secret& secret) : secret_(secret), nonce_(make_nonce()) {}

Frame WorkerHandshake::hello() const {
  Frame frame;
  frame.mutable_hello()->set_protocol_version(kProtocolVersion);
  frame.mutable_hello()->set_nonce(nonce_);
  return frame;
}

base::Expected<std::string> WorkerHandshake::answer(const Frame& frame) const {
  if (frame.has_reject()) {
    return protocol_error(
        fmt::format("the coordinator refused: {}", clean_reason(frame.reject().reason())));
  }
  if (!frame.has_challenge()) return protocol_error("expected a challenge");
  const Challenge& challenge = frame.challenge();
  if (auto status = check_version(challenge.protocol_version()); !status) return status.error();
  if (challenge.nonce().size() != kNonceBytes) return protocol_error("nonce of a wrong size");
  const std::string expected = make_proof(secret_, Role::kCoordinator, nonce_, challenge.nonce());
  if (!proof_matches(expected, challenge.proof())) return wrong_secret("coordinator");
  return make_proof(secret_, Role::kWorker, challenge.nonce(), nonce_);
}

base::Expected<Frame> WorkerHandshake::on_challenge(const Frame& frame,
                                                    Registration registration) const {
  const auto proof = answer(frame);
  if (!proof) return proof.error();
  registration.set_proof(*proof);
  Frame out;
  *out.mutable_registration() = std::move(registration);
  return out;
}

base::Expected<Frame> WorkerHandshake::on_challenge(const Frame& frame,
                                                    BulkRegistration registration) const {
  const auto proof = answer(frame);
  if (!proof) return proof.error();
  registration.set_proof(*proof);
  Frame out;
  *out.mutable_bulk_registration() = std::move(registration);
  return out;
}

CoordinatorHandshake::CoordinatorHandshake(const Secret& secret)
    : secret_(secret), nonce_(make_nonce()) {}

base::Expected<Frame> CoordinatorHandshake::on_hello(const Frame& frame) {
  if (!frame.has_hello()) return protocol_error("expected a hello");
  if (auto status = check_version(frame.hello().protocol_version()); !status) {
    return status.error();
  }
  if (frame.hello().nonce().size() != kNonceBytes) return protocol_error("nonce of a wrong size");
  peer_nonce_ = frame.hello().nonce();
  Frame answer;
  Challenge& challenge = *answer.mutable_challenge();
  challenge.set_protocol_version(kProtocolVersion);
  challenge.set_nonce(nonce_);
  challenge.set_proof(make_proof(secret_, Role::kCoordinator, peer_nonce_, nonce_));
  return answer;
}

base::Status CoordinatorHandshake::check_proof(const std::string& proof) const {
  if (peer_nonce_.empty()) return protocol_error("expected a hello");
  const std::string expected = make_proof(secret_, Role::kWorker, nonce_, peer_nonce_);
  if (!proof_matches(expected, proof)) return wrong_secret("worker");
  return base::Status::ok();
}

base::Expected<Registration> CoordinatorHandshake::on_registration(const Frame& frame) const {
  if (!frame.has_registration()) return protocol_error("expected a registration");
  if (auto status = check_proof(frame.registration().proof()); !status) return status.error();
  if (auto status = validate(frame.registration()); !status) return status.error();
  return frame.registration();
}

base::Expected<BulkRegistration> CoordinatorHandshake::on_bulk_registration(
    const Frame& frame) const {
  if (!frame.has_bulk_registration()) return protocol_error("expected a bulk registration");
  if (auto status = check_proof(frame.bulk_registration().proof()); !status) return status.error();
  if (auto status = validate(frame.bulk_registration()); !status) return status.error();
  return frame.bulk_registration();
}

}  // namespace beryl::wire
