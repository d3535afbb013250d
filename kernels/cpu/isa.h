// Instruction sets that the CPU kernels are compiled for; the choice is made at run time.
#pragma once

namespace beryl::kernels::cpu {

enum class Isa {
  kPortable,  // plain C++, no fused multiply-add
  kAvx2,      // AVX2 + FMA
  kAvx512,    // AVX-512 F, BW, DQ, VL
  kBest,      // the widest that this CPU has
};

// True if this CPU (and its operating system) runs code of `isa`.
bool is_supported(Isa isa);

// kBest becomes the widest supported set; anything else stays.
Isa resolve(Isa isa);

const char* isa_name(Isa isa);

}  // namespace beryl::kernels::cpu
