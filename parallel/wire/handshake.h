// Both sides of the handshake as state machines without I/O:
//   worker: Hello -> coordinator: Challenge -> worker: Registration -> coordinator: Welcome |
//   Reject
// and, for the second connection of a worker, BulkRegistration in place of Registration.
// An Error of kUnauthenticated means a wrong secret, kInvalidArgument a broken or foreign peer.
#pragma once

#include <string>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"
#include "parallel/wire/secret.h"

namespace beryl::wire {

class WorkerHandshake {
 public:
  explicit WorkerHandshake(const Secret& secret);

  Frame hello() const;
  // Checks the coordinator's answer; on success `registration` with our proof. A Reject in place of
  // a Challenge (version mismatch) becomes the error it says.
  base::Expected<Frame> on_challenge(const Frame& frame, Registration registration) const;
  base::Expected<Frame> on_challenge(const Frame& frame, BulkRegistration registration) const;

 private:
  // Our proof, if the challenge is one of our coordinator.
  base::Expected<std::string> answer(const Frame& frame) const;

  const Secret& secret_;
  std::string nonce_;
};

class CoordinatorHandshake {
 public:
  explicit CoordinatorHandshake(const Secret& secret);

  base::Expected<Frame> on_hello(const Frame& frame);
  // The worker's registration, authenticated and valid (parallel/wire/validate.h).
  base::Expected<Registration> on_registration(const Frame& frame) const;
  base::Expected<BulkRegistration> on_bulk_registration(const Frame& frame) const;

 private:
  base::Status check_proof(const std::string& proof) const;

  const Secret& secret_;
  std::string nonce_;
  std::string peer_nonce_;
};

Frame reject_frame(const std::string& reason);

}  // namespace beryl::wire
