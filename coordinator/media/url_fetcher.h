// Downloads what a client's URL names, with the eyes of someone who may be abused: a URL can point
// into the network that the server stands in.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/media/public_address.h"
#include "coordinator/media/stop_condition.h"
#include "parallel/base/expected.h"

namespace beryl::media {

struct FetchOptions {
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds timeout{15'000};  // of one URL, redirects included
  uint32_t max_redirects = 3;
  std::vector<uint16_t> allowed_ports = {80, 443, 8080, 8443};
  // Hosts that may be asked, redirects included. Empty: all.
  std::vector<std::string> allowed_hosts = {};
  // Looks at the address that is about to be connected to, after names are resolved, so no name can
  // resolve to one thing for a check and to another for the connection.
  std::function<bool(const sockaddr&)> is_allowed_address = is_public_address;
  // What went wrong in detail: for the log of the server, not for the client.
  std::function<void(std::string_view)> on_failure = {};
};

class UrlFetcher {
 public:
  explicit UrlFetcher(FetchOptions options);

  // The body behind an http: or https: URL, at most `max_bytes`. Blocks. A closed port, a refused
  // address, a wrong status and a timeout give the same error, so that nobody can map a network
  // with it. kCancelled if `stop` says so. Thread-safe.
  base::Expected<std::string> fetch(const std::string& url, size_t max_bytes,
                                    const StopCondition& stop) const;

 private:
  FetchOptions options_;
};

}  // namespace beryl::media
