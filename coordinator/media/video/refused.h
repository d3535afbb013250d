// Thrown where a video cannot be read on: caught once, in main of the decoding process.
#pragma once

#include <cstdint>

#include "coordinator/media/video/decoding_protocol.h"

namespace beryl::media {

struct Refused {
  Refusal refusal = Refusal::kDamaged;
  uint64_t value = 0;
};

// The answer to an error number of libav, where nothing better is known than `otherwise`.
[[noreturn]] void refuse(int libav_error, Refusal otherwise);

}  // namespace beryl::media
