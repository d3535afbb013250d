// Checks of a server before it is measured.
#pragma once

#include "bench/serve/serve_run.h"
#include "parallel/base/expected.h"

namespace beryl::load {

// Sends a greedy request twice, one after the other: both answers must be right in themselves and,
// unless `may_vary`, hold the same text.
base::Status verify_server(const ServeOptions& options, const Prompt& prompt, bool may_vary);

}  // namespace beryl::load
