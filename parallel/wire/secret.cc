#include "parallel/wire/secret.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <utility>

#include "parallel/wire/auth.h"
#include "parallel/wire/limits.h"

namespace beryl::wire {
namespace {

std::string to_hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

}  // namespace

base::Expected<Secret> Secret::from_text(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  if (text.size() < kMinSecretBytes || text.size() > kMaxSecretBytes) {
    return base::invalid_argument(
        "secret", fmt::format("the cluster secret has {} bytes, {} to {} are legal", text.size(),
                              kMinSecretBytes, kMaxSecretBytes));
  }
  return Secret(std::string(text));
}

base::Expected<Secret> Secret::load(const std::string& path) {
  if (path.empty()) {
    const char* text = std::getenv(kSecretVariable);
    if (text == nullptr) {
      return base::invalid_argument(
          "secret", fmt::format("no cluster secret: give --secret-file FILE or set {} (the same on "
                                "coordinator and workers; `openssl rand -hex 32` makes one)",
                                kSecretVariable));
    }
    return from_text(text);
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return base::invalid_argument("secret-file", fmt::format("cannot read {}", path));
  }
  std::string text(kMaxSecretBytes + 3, '\0');  // one more than is legal, and a line end
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  return from_text(text);
}

Secret Secret::generate() {
  return Secret(to_hex(make_nonce()));
}

}  // namespace beryl::wire
