// The worker's side of the handshake on a connection.
#pragma once

#include "parallel/base/expected.h"
#include "parallel/wire/connection.h"
#include "parallel/wire/secret.h"

namespace beryl::wire {

// Returns when the registration is sent; whether it is accepted comes later. `proof` is filled in.
// kUnauthenticated: the coordinator does not know the secret.
base::Status greet(Connection& connection, const Secret& secret, const Registration& registration);
base::Status greet(Connection& connection, const Secret& secret,
                   const BulkRegistration& registration);

}  // namespace beryl::wire
