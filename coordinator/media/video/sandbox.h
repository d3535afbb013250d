// What a process that reads a stranger's file may still do: compute, and write to the pipes it has.
#pragma once

#include <cstdint>

namespace beryl::media {

struct SandboxLimits {
  uint64_t max_memory_bytes = 0;  // address space, libraries included
  uint32_t max_cpu_s = 0;         // then SIGKILL
};

// Confines this process for the rest of its life. In force afterwards: a limit of memory, of
// processor time, of files (none may be opened or grow) and of processes (none may be started); no
// new privileges; death with the parent; and a seccomp list of the system calls a decoder needs
// (memory, reading and writing what is open, clocks, ending): all others, sockets, files, signals
// to others and new processes among them, fail with EPERM. False if the kernel refuses one of
// these: then do not go on. Only x86-64 and arm64 are known.
bool enter_sandbox(const SandboxLimits& limits);

}  // namespace beryl::media
