// Pictures of a prompt on their way to the scheduler: their keys, their spans, and what a group can
// take.
#pragma once

#include <cstdint>
#include <vector>

#include "coordinator/cluster/engine.h"
#include "coordinator/media/prepared_image.h"
#include "coordinator/scheduler/request.h"
#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"

namespace beryl::cluster {

scheduler::PictureKey to_key(const media::ContentHash& hash);

std::vector<scheduler::PictureSpan> to_spans(const std::vector<media::PlacedImage>& pictures);

// Soft tokens of the largest picture that a rank can encode, keep and run in one step.
uint32_t max_picture_tokens(const wire::CacheFacts& cache);

// kInvalidArgument: the model takes no pictures, or none as large as one of these.
base::Status check_pictures(const std::vector<media::PlacedImage>& pictures,
                            const wire::CacheFacts& cache);

}  // namespace beryl::cluster
