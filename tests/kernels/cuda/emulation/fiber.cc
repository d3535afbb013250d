#include "tests/kernels/cuda/emulation/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

// void beryl_switch_stack(void** save, void* load): pushes what a call must keep, changes stacks.
asm(R"(
.text
.globl beryl_switch_stack
.type beryl_switch_stack, @function
beryl_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size beryl_switch_stack, .-beryl_switch_stack
)");
extern "C" void beryl_switch_stack(void** save, void* load);

namespace beryl::emulation {
namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr int kSavedRegisters = 6;
// Stacks begin at different cache sets, or every switch would miss.
constexpr size_t kColourBytes = 320;
constexpr size_t kNumColours = 64;

Fiber* running = nullptr;
void* main_stack_pointer = nullptr;
size_t num_stacks = 0;

}  // namespace

Fiber::~Fiber() {
  if (stack_ != nullptr) ::munmap(stack_, kStackBytes);
}

void Fiber::start(std::function<void()> body) {
  if (stack_ == nullptr) {
    stack_ =
        ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack_ == MAP_FAILED) {
      std::perror("fiber stack");
      std::abort();
    }
    colour_ = num_stacks++;
  }
  body_ = std::move(body);
  // As if switched out just before enter(): its address to return to, registers below. At the entry
  // of a function the stack pointer is 8 beyond a multiple of 16.
  const size_t colour = colour_ % kNumColours * kColourBytes;
  auto top = reinterpret_cast<uintptr_t>(stack_) + kStackBytes - 64 - colour;
  auto* words = reinterpret_cast<uintptr_t*>(top / 16 * 16 + 8);
  words[0] = 0;
  words[-1] = reinterpret_cast<uintptr_t>(&Fiber::enter);
  for (int i = 0; i < kSavedRegisters; ++i) words[-2 - i] = 0;
  stack_pointer_ = words - 1 - kSavedRegisters;
}

void Fiber::resume() {
  running = this;
  beryl_switch_stack(&main_stack_pointer, stack_pointer_);
  running = nullptr;
}

void Fiber::yield() {
  beryl_switch_stack(&running->stack_pointer_, main_stack_pointer);
}

void Fiber::enter() {
  running->body_();
  yield();
  std::abort();  // resumed after its end
}

}  // namespace beryl::emulation
