#include "coordinator/api/api_keys.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <fstream>

namespace beryl::api {
namespace {

constexpr size_t kMaxKeys = 10'000;

std::array<uint8_t, 32> sha256(std::string_view text) {
  std::array<uint8_t, 32> hash{};
  unsigned int size = 0;
  const int ok = EVP_Digest(text.data(), text.size(), hash.data(), &size, EVP_sha256(), nullptr);
  BERYL_ASSERT(ok == 1 && size == hash.size());
  return hash;
}

std::string_view given_key(const http::Request& request) {
  if (const auto header = request.header("authorization")) {
    constexpr std::string_view kBearer = "bearer ";
    if (header->size() <= kBearer.size()) return {};
    for (size_t i = 0; i < kBearer.size(); ++i) {
      if (((*header)[i] | 0x20) != kBearer[i]) return {};
    }
    const std::string_view key = header->substr(kBearer.size());
    const size_t begin = key.find_first_not_of(' ');
    return begin == std::string_view::npos ? std::string_view() : key.substr(begin);
  }
  return request.header("x-api-key").value_or(std::string_view());
}

}  // namespace

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) hashes_.push_back(sha256(key));
}

bool ApiKeys::contains(std::string_view key) const {
  const Hash hash = sha256(key);
  int found = 0;
  for (const Hash& known : hashes_) {
    found |= static_cast<int>(CRYPTO_memcmp(known.data(), hash.data(), hash.size()) == 0);
  }
  return found != 0;
}

base::Status ApiKeys::check(const http::Request& request) const {
  if (empty()) return base::Status::ok();
  const std::string_view key = given_key(request);
  if (key.empty()) {
    return base::Error{base::ErrorCode::kUnauthenticated,
                       "No API key. Send it as 'Authorization: Bearer KEY'.",
                       {},
                       "invalid_api_key"};
  }
  if (!contains(key)) {
    return base::Error{
        base::ErrorCode::kUnauthenticated, "The API key is not known here.", {}, "invalid_api_key"};
  }
  return base::Status::ok();
}

base::Expected<std::vector<std::string>> read_key_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return base::invalid_argument(path, fmt::format("{}: cannot be read", path));
  std::vector<std::string> keys;
  std::string line;
  while (std::getline(file, line)) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    keys.push_back(line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1));
    if (keys.size() > kMaxKeys) {
      return base::invalid_argument(path, fmt::format("{}: more than {} keys", path, kMaxKeys));
    }
  }
  if (keys.empty()) return base::invalid_argument(path, fmt::format("{}: no key in it", path));
  return keys;
}

}  // namespace beryl::api
