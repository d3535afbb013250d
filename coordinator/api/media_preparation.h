// The media of one request, from their URLs to their places in the prompt.
#pragma once

#include <cstddef>
#include <vector>

#include "coordinator/api/media_parts.h"
#include "coordinator/media/media_loader.h"
#include "coordinator/metrics/media_metrics.h"
#include "coordinator/text/chat_format.h"
#include "parallel/base/expected.h"

namespace beryl::api {

class PreparedMedia {
 public:
  // Fetches, decodes and resizes what `request` names and writes into `messages` how many soft
  // tokens each part has. Blocks. The error names the part. Ends early where all together have more
  // than `max_tokens` soft tokens.
  static base::Expected<PreparedMedia> prepare(const media::MediaLoader& loader,
                                               const MediaRequest& request, size_t max_tokens,
                                               const media::StopCondition& stop,
                                               metrics::MediaMetrics& metrics,
                                               std::vector<text::ChatMessage>& messages);

  // Where the rendered prompt has them.
  std::vector<media::PlacedImage> place(const text::RenderedChat& rendered) const;

 private:
  struct Part {
    size_t message_idx = 0;
    size_t part_idx = 0;
    std::vector<media::PreparedImagePtr> images;  // [runs]
  };

  const Part& find(const text::MediaPlaceholder& placeholder) const;

  std::vector<Part> parts_;  // by message and part
};

// Soft tokens of one kind in a rendered prompt.
size_t count_soft_tokens(const text::RenderedChat& rendered, text::PartKind kind,
                         const std::vector<media::PlacedImage>& placed);

}  // namespace beryl::api
