// Executes the plans of a session, one after the other.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "parallel/base/expected.h"
#include "parallel/wire/cluster.pb.h"
#include "worker/service/session.h"

namespace beryl::service {

// May throw kernels::DeviceError.
using ExecuteStep = std::function<base::Expected<wire::StepResult>(const wire::StepPlan&)>;

// Until the session is over. A step that fails ends it: the coordinator is told why first. Returns
// what the device said, if it was the device: then nothing on it can be trusted any more, and the
// process must end.
std::optional<std::string> execute_plans(Session& session, const ExecuteStep& execute);

}  // namespace beryl::service
