// DeviceError: a device or its driver failed. Names the call; nothing after it can be trusted.
#pragma once

#include <stdexcept>

namespace beryl::kernels {

class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace beryl::kernels
