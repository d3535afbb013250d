// The `process_*` metrics of Prometheus client libraries, read from /proc at each scrape.
#pragma once

#include "coordinator/metrics/registry.h"

namespace beryl::metrics {

void add_process_metrics(Registry& registry);

}  // namespace beryl::metrics
