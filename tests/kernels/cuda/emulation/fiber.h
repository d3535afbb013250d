// Fiber: a function with its own stack that gives control back and forth. x86-64 and System V only;
// ucontext would do a system call at every switch.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace beryl::emulation {

class Fiber {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume() begins `body`. A fiber may be started again once its body has returned.
  void start(std::function<void()> body);
  // Runs it until it yields or ends. One fiber at a time; not from within a fiber.
  void resume();
  // From within: back to resume().
  static void yield();

 private:
  static void enter();

  std::function<void()> body_;
  void* stack_ = nullptr;
  void* stack_pointer_ = nullptr;
  size_t colour_ = 0;
};

}  // namespace beryl::emulation
