// API keys: several, from flags, the environment or a file. Only their hashes are kept.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/http/request.h"
#include "parallel/base/expected.h"

namespace beryl::api {

class ApiKeys {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);

  bool empty() const noexcept { return hashes_.empty(); }
  // `Authorization: Bearer KEY` or `X-Api-Key: KEY`. Takes the same time whichever key is given.
  base::Status check(const http::Request& request) const;
  bool contains(std::string_view key) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  std::vector<Hash> hashes_;
};

// One key a line; empty lines and lines that begin with '#' are skipped.
base::Expected<std::vector<std::string>> read_key_file(const std::string& path);

}  // namespace beryl::api
