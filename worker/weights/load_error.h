// LoadError: why weights cannot be used, in one line that names the file, the tensor, what was
// expected and what was found.
#pragma once

#include <stdexcept>

namespace beryl::weights {

class LoadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace beryl::weights
