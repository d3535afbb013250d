// What is counted about pictures and videos before they go to the engine. Updated by
// coordinator/api.
#pragma once

#include "coordinator/metrics/registry.h"

namespace beryl::metrics {

struct MediaMetrics {
  explicit MediaMetrics(Registry& registry);

  // One for each picture or video of a request. kind: image, video; outcome: ok, refused, timeout,
  // cancelled, unavailable.
  Family<Counter>& parts;
  Family<Histogram>& load_s;  // kind: fetching, decoding and resizing together
  Counter& pictures;          // prepared, the frames of videos among them
  Counter& prepared_bytes;    // pixels that go to the engine
  Counter& fetch_failures;    // downloads, refused addresses included
  Counter& decoder_failures;  // of video decoders: crashed, killed, or answered nonsense
};

}  // namespace beryl::metrics
