#include "coordinator/media/video/sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

namespace beryl::media {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kArchitecture = 0;  // unknown: enter_sandbox() fails
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitsAddresses = false;  // the shadow of a sanitizer takes terabytes of addresses
#else
constexpr bool kLimitsAddresses = true;
#endif

// Executable memory is refused below, so these two are not in this list: mmap, mprotect.
constexpr uint32_t kAllowed[] = {
    // memory
    SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise,
    // what is open already
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_lseek, SYS_fstat, SYS_close,
    // locks, clocks, what the C library asks for
    SYS_futex, SYS_clock_gettime, SYS_clock_nanosleep, SYS_getrandom, SYS_getpid, SYS_gettid,
    SYS_sched_yield, SYS_sched_getaffinity, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn,
    SYS_sigaltstack,
    // the end
    SYS_exit, SYS_exit_group};
constexpr uint32_t kWithoutExecution[] = {SYS_mmap, SYS_mprotect};
constexpr uint32_t kProtectionArgument = 2;  // of both
constexpr uint32_t kProtExec = 4;            // PROT_EXEC

sock_filter load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
sock_filter answer(uint32_t value) {
  return BPF_STMT(BPF_RET | BPF_K, value);
}
// Goes on with the next instruction if equal, else leaves `num_skipped` out.
sock_filter unless_equal_skip(uint32_t value, uint8_t num_skipped) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, num_skipped);
}

std::vector<sock_filter> make_filter() {
  const uint32_t refuse = SECCOMP_RET_ERRNO | EPERM;
  std::vector<sock_filter> filter = {
      load(offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      answer(SECCOMP_RET_KILL_PROCESS),  // numbers of another architecture mean other calls
      load(offsetof(seccomp_data, nr)),
  };
  for (const uint32_t number : kAllowed) {
    filter.push_back(unless_equal_skip(number, 1));
    filter.push_back(answer(SECCOMP_RET_ALLOW));
  }
  for (const uint32_t number : kWithoutExecution) {
    filter.push_back(unless_equal_skip(number, 4));
    // The low half of a little-endian argument.
    filter.push_back(load(offsetof(seccomp_data, args) + kProtectionArgument * sizeof(uint64_t)));
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kProtExec, 0, 1));
    filter.push_back(answer(refuse));
    filter.push_back(answer(SECCOMP_RET_ALLOW));
  }
  filter.push_back(answer(refuse));
  return filter;
}

bool set_limit(int resource, rlim_t value) {
  const rlimit limit{value, value};
  return setrlimit(static_cast<__rlimit_resource_t>(resource), &limit) == 0;
}

}  // namespace

bool enter_sandbox(const SandboxLimits& limits) {
  if (kArchitecture == 0) return false;
  const bool is_limited = (!kLimitsAddresses || set_limit(RLIMIT_AS, limits.max_memory_bytes)) &&
                          set_limit(RLIMIT_CPU, limits.max_cpu_s) && set_limit(RLIMIT_CORE, 0) &&
                          set_limit(RLIMIT_FSIZE, 0) && set_limit(RLIMIT_NOFILE, 0) &&
                          set_limit(RLIMIT_NPROC, 0);
  if (!is_limited || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || prctl(PR_SET_DUMPABLE, 0) != 0 ||
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return false;
  }
  std::vector<sock_filter> filter = make_filter();
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace beryl::media
