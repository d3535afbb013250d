#include "coordinator/metrics/media_metrics.h"

#include "coordinator/metrics/buckets.h"

namespace beryl::metrics {

MediaMetrics::MediaMetrics(Registry& registry)
    : parts(registry.counter({"beryl_media_parts_total",
                              "Pictures and videos of requests, by what became of them.",
                              {"kind", "outcome"}})),
      load_s(registry.histogram({"beryl_media_load_seconds",
                                 "Fetching, decoding and resizing a picture or video.",
                                 {"kind"}},
                                latency_buckets_s())),
      pictures(registry
                   .counter({"beryl_media_pictures_total",
                             "Pictures prepared, frames of videos among them.",
                             {}})
                   .with({})),
      prepared_bytes(
          registry.counter({"beryl_media_prepared_bytes_total", "Pixels prepared, in bytes.", {}})
              .with({})),
      fetch_failures(
          registry.counter({"beryl_media_fetch_failures_total", "Downloads that failed.", {}})
              .with({})),
      decoder_failures(
          registry
              .counter({"beryl_video_decoder_failures_total",
                        "Video decoders that crashed, were killed or answered nonsense.",
                        {}})
              .with({})) {}

}  // namespace beryl::metrics
