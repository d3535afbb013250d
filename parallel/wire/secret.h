// The shared secret of a cluster. It never appears in a log, an error or a command line.
#pragma once

#include <string>
#include <string_view>

#include "parallel/base/expected.h"

namespace beryl::wire {

constexpr const char* kSecretVariable = "BERYL_CLUSTER_SECRET";

class Secret {
 public:
  // kInvalidArgument below kMinSecretBytes or above kMaxSecretBytes.
  static base::Expected<Secret> from_text(std::string_view text);
  // A file's content without trailing line ends, or, when `path` is empty, the environment variable
  // BERYL_CLUSTER_SECRET.
  static base::Expected<Secret> load(const std::string& path);
  // 32 random bytes as hexadecimal text, for a coordinator and workers of one launcher.
  static Secret generate();

  std::string_view bytes() const { return bytes_; }

 private:
  explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}
  std::string bytes_;
};

}  // namespace beryl::wire
