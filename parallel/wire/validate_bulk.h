// Checks of what travels over a worker's second connection, by whoever receives it.
#pragma once

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"
#include "parallel/wire/validate.h"

namespace beryl::wire {

base::Status validate(const BulkRegistration& registration);

// Of the coordinator: of this epoch, sides that are multiples of a soft token, no more patches than
// the group said, and as many bytes as pixels need.
base::Status validate(const Picture& picture, const GroupLimits& limits);

}  // namespace beryl::wire
