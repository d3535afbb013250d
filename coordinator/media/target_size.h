// To which size a picture is resized so that it fills its budget of soft tokens.
#pragma once

#include <cstdint>

#include "parallel/base/expected.h"

namespace beryl::media {

struct PixelSize {
  uint32_t width = 0;
  uint32_t height = 0;

  bool operator==(const PixelSize&) const = default;
};

// True for 70, 140, 280, 560 and 1120.
bool is_soft_token_budget(uint32_t budget);

// Both sides are multiples of 48, the aspect ratio is kept approximately, small pictures are
// enlarged. `size` has no zero side and `budget` is a legal one. Fails where no such size exists:
// never for the budgets above, so a failure means a picture beyond every limit.
base::Expected<PixelSize> target_size(PixelSize size, uint32_t budget);

}  // namespace beryl::media
