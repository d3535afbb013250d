#include "parallel/wire/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <cstdint>

#include "parallel/base/assert.h"
#include "parallel/wire/limits.h"

namespace beryl::wire {

std::string make_nonce() {
  std::string nonce(kNonceBytes, '\0');
  const int rc =
      RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size()));
  BERYL_ASSERT(rc == 1, "no random numbers from the system");
  return nonce;
}

std::string make_proof(const Secret& secret, Role role, std::string_view peer_nonce,
                       std::string_view own_nonce) {
  std::string text = role == Role::kCoordinator ? "coordinator" : "worker";
  text += '\0';
  text += peer_nonce;
  text += own_nonce;
  std::string proof(kProofBytes, '\0');
  unsigned int num_bytes = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), secret.bytes().data(), static_cast<int>(secret.bytes().size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(),
           reinterpret_cast<unsigned char*>(proof.data()), &num_bytes);
  BERYL_ASSERT(made != nullptr && num_bytes == kProofBytes, "HMAC gave {} bytes", num_bytes);
  return proof;
}

bool proof_matches(std::string_view expected, std::string_view given) {
  return expected.size() == given.size() &&
         CRYPTO_memcmp(expected.data(), given.data(), expected.size()) == 0;
}

}  // namespace beryl::wire
