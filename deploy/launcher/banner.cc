#include "deploy/launcher/banner.h"

#include <fmt/format.h>

namespace beryl::launcher {

std::string url(const std::string& host, uint16_t port) {
  if (host.empty() || host == "0.0.0.0") return fmt::format("http://127.0.0.1:{}", port);
  if (host == "::") return fmt::format("http://[::1]:{}", port);
  if (host.find(':') != std::string::npos) return fmt::format("http://[{}]:{}", host, port);
  return fmt::format("http://{}:{}", host, port);
}

std::string ready_banner(const std::string& url, const std::string& model, bool needs_key) {
  const char* key = needs_key ? " -H \"Authorization: Bearer $BERYL_API_KEY\"" : "";
  return fmt::format(
      "\n"
      "  Beryl is ready: {}/v1   model: {}\n"
      "\n"
      "  curl -N {}/v1/chat/completions{} -H 'Content-Type: application/json' -d '{{\n"
      "    \"model\": \"{}\", \"stream\": true,\n"
      "    \"messages\": [{{\"role\": \"user\", \"content\": \"What is Beryl?\"}}]}}'\n"
      "\n"
      "  Health: {}/health   metrics: {}/metrics   stop: Ctrl-C\n"
      "\n",
      url, model, url, key, model, url, url);
}

}  // namespace beryl::launcher
