#include "bench/serve/verify.h"

#include <fmt/format.h>

#include <algorithm>

namespace beryl::load {
namespace {

// Tokens of an answer that is compared; enough to notice, and quick for slow models.
constexpr int kMaxVerifiedTokens = 64;

}  // namespace

base::Status verify_server(const ServeOptions& options, const Prompt& prompt, bool may_vary) {
  ServeOptions greedy = options;
  greedy.temperature = 0;
  greedy.max_concurrency = 1;
  greedy.request_rate = 0;
  greedy.output_tokens = std::min(options.output_tokens, kMaxVerifiedTokens);
  std::string texts[2];
  for (int i = 0; i < 2; ++i) {
    greedy.cache_salt = fmt::format("verify-{}-{}", options.seed, i);
    const ServeResult result = run_requests(greedy, {&prompt, 1});
    const RequestRecord& record = result.records.front();
    if (!record.error.empty()) {
      return base::invalid_argument("endpoint", "the first requests fail: " + record.error);
    }
    texts[i] = record.text;
  }
  if (may_vary || texts[0] == texts[1]) return base::Status::ok();
  return base::invalid_argument(
      "endpoint", fmt::format("the same greedy request was answered with two texts:\n  {}\n  {}\n"
                              "(--allow-varying-answers measures such a server)",
                              texts[0], texts[1]));
}

}  // namespace beryl::load
