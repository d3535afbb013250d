// Challenge and response over the shared secret (HMAC-SHA256). Each side proves that it knows the
// secret for the nonce the other chose; the role keeps a proof from being sent back to its maker.
#pragma once

#include <string>
#include <string_view>

#include "parallel/wire/secret.h"

namespace beryl::wire {

enum class Role { kCoordinator, kWorker };

// kNonceBytes from the system's generator.
std::string make_nonce();

// Proof of `role`, which chose `own_nonce` and was sent `peer_nonce`.
std::string make_proof(const Secret& secret, Role role, std::string_view peer_nonce,
                       std::string_view own_nonce);

// In constant time.
bool proof_matches(std::string_view expected, std::string_view given);

}  // namespace beryl::wire
