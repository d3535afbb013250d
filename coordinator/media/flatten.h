// Transparency.
#pragma once

#include <cstdint>
#include <vector>

namespace beryl::media {

// [pixels, 4] with straight alpha to [pixels, 3] over white, in place.
void flatten_over_white(std::vector<uint8_t>& rgba);

}  // namespace beryl::media
