#include "coordinator/media/url_fetcher.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <utility>

namespace beryl::media {
namespace {

using std::chrono::milliseconds;

constexpr const char* kProtocols = "http,https";
constexpr const char* kUserAgent = "beryl";
constexpr int kFirstRedirectStatus = 300;
constexpr int kFirstErrorStatus = 400;
constexpr int kOkStatus = 200;

struct FreeCurl {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlHandle = std::unique_ptr<CURL, FreeCurl>;
using ParsedUrl = std::unique_ptr<CURLU, FreeCurl>;

base::Error not_fetched() {
  return base::invalid_argument(
      {}, "The URL could not be fetched: it must name a file on a public web server.");
}

// Everything the callbacks of one transfer need.
struct Transfer {
  const FetchOptions& options;
  const StopCondition& stop;
  size_t max_bytes = 0;
  std::string body = {};
  bool is_too_large = false;
  bool is_refused = false;
};

size_t on_data(char* data, size_t, size_t size, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  if (size > transfer.max_bytes - transfer.body.size()) {
    transfer.is_too_large = true;
    return CURL_WRITEFUNC_ERROR;
  }
  transfer.body.append(data, size);
  return size;
}

int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Transfer*>(context)->stop.is_over() ? 1 : 0;
}

uint16_t port_of(const sockaddr& address) {
  // The port lies at the same place in both families.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

curl_socket_t open_socket(void* context, curlsocktype, curl_sockaddr* to) {
  auto& transfer = *static_cast<Transfer*>(context);
  const auto& ports = transfer.options.allowed_ports;
  const bool is_inet = to->family == AF_INET || to->family == AF_INET6;
  if (!is_inet || !transfer.options.is_allowed_address(to->addr) ||
      std::find(ports.begin(), ports.end(), port_of(to->addr)) == ports.end()) {
    transfer.is_refused = true;
    return CURL_SOCKET_BAD;
  }
  return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

std::string part_of(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK || text == nullptr) return {};
  std::string copy = text;
  curl_free(text);
  return copy;
}

// The same parser that makes the connection, so both see the same host.
base::Expected<ParsedUrl> parse_url(const std::string& text, const FetchOptions& options) {
  ParsedUrl url(curl_url());
  if (url == nullptr || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return base::invalid_argument({}, "The URL is not valid.");
  }
  const std::string scheme = part_of(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return base::invalid_argument({}, "The URL must be http: or https:.");
  }
  if (!part_of(url.get(), CURLUPART_USER).empty() ||
      !part_of(url.get(), CURLUPART_PASSWORD).empty()) {
    return base::invalid_argument({}, "The URL must not hold a user name or password.");
  }
  std::string host = part_of(url.get(), CURLUPART_HOST);
  std::transform(host.begin(), host.end(), host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto& hosts = options.allowed_hosts;
  if (!hosts.empty() && std::find(hosts.begin(), hosts.end(), host) == hosts.end()) {
    return base::invalid_argument({}, "The host of the URL is not among those allowed here.");
  }
  return url;
}

void set_options(CURL* curl, CURLU* url, milliseconds time_left, Transfer& transfer) {
  curl_easy_setopt(curl, CURLOPT_CURLU, url);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, kProtocols);
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);  // each step is checked as a URL of its own
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, kUserAgent);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(transfer.options.connect_timeout.count()));
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(time_left.count()));
  curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(transfer.max_bytes));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &on_data);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &transfer);
}

struct Outcome {
  bool is_done = false;
  std::string redirect;  // where to go on, if not done
};

base::Expected<Outcome> fetch_once(CURLU* url, milliseconds time_left, Transfer& transfer) {
  const CurlHandle curl(curl_easy_init());
  if (curl == nullptr) return not_fetched();
  transfer.body.clear();
  set_options(curl.get(), url, time_left, transfer);
  const CURLcode code = curl_easy_perform(curl.get());
  if (transfer.stop.is_cancelled()) {
    return base::Error{base::ErrorCode::kCancelled, "The client has gone.", {}, {}};
  }
  if (transfer.is_too_large || code == CURLE_FILESIZE_EXCEEDED) {
    return base::invalid_argument(
        {},
        fmt::format("What the URL names has more than the {} bytes allowed.", transfer.max_bytes));
  }
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  char* redirect = nullptr;
  curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &redirect);
  const bool is_redirect = code == CURLE_OK && redirect != nullptr &&
                           status >= kFirstRedirectStatus && status < kFirstErrorStatus;
  if (is_redirect) return Outcome{false, redirect};
  if (code == CURLE_OK && status == kOkStatus) return Outcome{true, {}};
  if (transfer.options.on_failure) {
    transfer.options.on_failure(
        transfer.is_refused ? std::string("its address or port is not allowed")
                            : fmt::format("{}, status {}", curl_easy_strerror(code), status));
  }
  return not_fetched();
}

}  // namespace

UrlFetcher::UrlFetcher(FetchOptions options) : options_(std::move(options)) {
  static const CURLcode initialized = curl_global_init(CURL_GLOBAL_DEFAULT);
  BERYL_ASSERT(initialized == CURLE_OK, "libcurl cannot start: {}",
               curl_easy_strerror(initialized));
}

base::Expected<std::string> UrlFetcher::fetch(const std::string& url, size_t max_bytes,
                                              const StopCondition& stop) const {
  const auto now = std::chrono::steady_clock::now();
  const StopCondition whole{std::min(stop.deadline, now + options_.timeout), stop.cancelled};
  Transfer transfer{options_, whole, max_bytes};
  std::string next = url;
  for (uint32_t i = 0; i <= options_.max_redirects; ++i) {
    const auto parsed = parse_url(next, options_);
    if (!parsed) return i == 0 ? parsed.error() : not_fetched();
    const auto time_left =
        std::chrono::duration_cast<milliseconds>(whole.deadline - std::chrono::steady_clock::now());
    if (time_left.count() <= 0) return not_fetched();
    auto outcome = fetch_once(parsed->get(), time_left, transfer);
    if (!outcome) return std::move(outcome).error();
    if (outcome->is_done) return std::move(transfer.body);
    next = std::move(outcome->redirect);
  }
  return not_fetched();
}

}  // namespace beryl::media
