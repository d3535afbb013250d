#include "parallel/wire/greet.h"

#include "parallel/wire/handshake.h"
#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

template <typename AnyRegistration>
base::Status shake_hands(Connection& connection, const Secret& secret,
                         const AnyRegistration& registration) {
  const WorkerHandshake handshake(secret);
  auto sent = connection.send(handshake.hello(), kMaxHandshakeFrameBytes, kHandshakeDeadline);
  if (!sent) return sent;
  const auto challenge = connection.receive(kMaxHandshakeFrameBytes, kHandshakeDeadline);
  if (!challenge) return challenge.error();
  const auto answer = handshake.on_challenge(*challenge, registration);
  if (!answer) return answer.error();
  return connection.send(*answer, kMaxHandshakeFrameBytes, kHandshakeDeadline);
}

}  // namespace

base::Status greet(Connection& connection, const Secret& secret, const Registration& registration) {
  return shake_hands(connection, secret, registration);
}

base::Status greet(Connection& connection, const Secret& secret,
                   const BulkRegistration& registration) {
  return shake_hands(connection, secret, registration);
}

}  // namespace beryl::wire
