#include "kernels/cpu/kernel_table.h"

#include "kernels/check.h"

namespace beryl::kernels::cpu {

namespace portable {
extern const KernelTable kTable;
}
#if defined(__x86_64__)
namespace avx2 {
extern const KernelTable kTable;
}
namespace avx512 {
extern const KernelTable kTable;
}
#endif

const KernelTable& kernel_table(Isa isa) {
  BERYL_CHECK(is_supported(isa));
#if defined(__x86_64__)
  const Isa chosen = resolve(isa);
  if (chosen == Isa::kAvx512) return avx512::kTable;
  if (chosen == Isa::kAvx2) return avx2::kTable;
#endif
  return portable::kTable;
}

}  // namespace beryl::kernels::cpu
