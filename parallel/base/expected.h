// Expected<T>: a value, or the Error that explains why there is none. Used for everything that can
// fail at run time (bad request, full queue, lost worker). std::expected is C++23; this is the
// small part of it that the project needs.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "parallel/base/assert.h"

namespace beryl::base {

// Free of any protocol. The HTTP status of each is one table: coordinator/api/error_response.cc.
enum class ErrorCode {
  kInvalidArgument,       // 400 the caller's input is wrong; `param` names the field
  kUnauthenticated,       // 401 no or unknown API key
  kForbidden,             // 403
  kNotFound,              // 404 route or model
  kMethodNotAllowed,      // 405
  kTimeout,               // 408 the client was too slow
  kPayloadTooLarge,       // 413
  kUnsupportedMediaType,  // 415
  kQueueFull,             // 429 retry later
  kHeaderTooLarge,        // 431
  kInternal,              // 500 a bug of ours
  kNotImplemented,        // 501 known, but not supported yet
  kUnavailable,           // 503 no healthy group, loading or draining
  kDeadlineExceeded,      // 504
  kCancelled,             // the client is gone; never written to a socket
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;  // one line, for people; says what to do next where there is something to do
  std::string param;    // field, flag or file it is about; may be empty
  std::string reason;   // machine-readable, e.g. "context_length_exceeded"; may be empty
};

inline Error invalid_argument(std::string param, std::string message) {
  return Error{ErrorCode::kInvalidArgument, std::move(message), std::move(param), {}};
}

template <typename T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit
  Expected(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T& value() & {
    check_value();
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    check_value();
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    check_value();
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    BERYL_ASSERT(!has_value(), "error() of an Expected that holds a value");
    return *std::get_if<1>(&state_);
  }
  Error&& error() && {
    BERYL_ASSERT(!has_value(), "error() of an Expected that holds a value");
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  void check_value() const {
    BERYL_ASSERT(has_value(), "value() of a failed Expected: {}", std::get_if<1>(&state_)->message);
  }

  std::variant<T, Error> state_;
};

// Success without a value, or the Error. `Status::ok()` reads better than an empty brace.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)), failed_(true) {}  // NOLINT: implicit
  static Status ok() { return {}; }

  bool is_ok() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return is_ok(); }
  const Error& error() const {
    BERYL_ASSERT(failed_, "error() of a Status that is ok");
    return error_;
  }

 private:
  Error error_;
  bool failed_ = false;
};

}  // namespace beryl::base
