// What the API handlers work with. Made in main; everything outlives the HTTP server.
#pragma once

#include "coordinator/api/options.h"
#include "coordinator/cluster/engine.h"
#include "coordinator/metrics/server_metrics.h"
#include "coordinator/text/chat_format.h"
#include "coordinator/text/tokenizer.h"
#include "parallel/base/log.h"

namespace beryl::api {

struct ServerContext {
  cluster::Engine& engine;
  const text::Tokenizer& tokenizer;
  const text::ChatFormat& chat_format;
  metrics::ServerMetrics& metrics;
  ServerOptions options;
  base::Logger& logger;
};

}  // namespace beryl::api
