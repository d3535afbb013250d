// The pictures of one case: where they are in its prompt, and their features against the recorded
// ones.
#pragma once

#include <vector>

#include "bench/model/feature_span.h"
#include "bench/parity/comparison.h"
#include "bench/parity/reference.h"
#include "worker/model/vision_tower.h"

namespace beryl::bench {

// The runs of placeholders, one for each picture, features without memory yet. Throws
// std::runtime_error where a run does not fit its picture.
std::vector<FeatureSpan> find_spans(const ReferenceCase& reference,
                                    const model::ModelConfig& config);

// Features of all pictures in order. What was recorded of them goes to the comparison. Throws
// std::runtime_error for a picture of an illegal size.
model::Features encode_pictures(const ReferenceCase& reference,
                                const model::VisionTowerParts& parts, Comparison* comparison);

}  // namespace beryl::bench
