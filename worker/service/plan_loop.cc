#include "worker/service/plan_loop.h"

#include <fmt/format.h>

#include "kernels/device_error.h"
#include "parallel/wire/limits.h"
#include "parallel/wire/validate.h"

namespace beryl::service {

std::optional<std::string> execute_plans(Session& session, const ExecuteStep& execute) {
  while (const auto plan = session.next_plan()) {
    std::string failure;
    bool is_of_device = false;
    try {
      const auto result = execute(*plan);
      if (result) {
        if (!session.send_result(*result)) return std::nullopt;
        continue;
      }
      failure = result.error().message;
    } catch (const kernels::DeviceError& error) {
      failure = error.what();
      is_of_device = true;
    }
    wire::StepResult last;
    last.set_epoch(plan->epoch());
    last.set_step(plan->step());
    last.set_error(wire::clean_reason(failure));
    (void)session.send_result(last);
    const std::string reason = fmt::format("step {}: {}", plan->step(), failure);
    session.end({.is_clean = false, .reason = reason});
    if (is_of_device) return reason;
  }
  return std::nullopt;
}

}  // namespace beryl::service
