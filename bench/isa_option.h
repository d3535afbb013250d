// The --isa option, shared by sub-commands that run CPU operations.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "kernels/cpu/isa.h"

namespace beryl::bench {

inline void add_isa_option(CLI::App& command, kernels::cpu::Isa& isa) {
  using kernels::cpu::Isa;
  const std::map<std::string, Isa> names = {{"best", Isa::kBest},
                                            {"portable", Isa::kPortable},
                                            {"avx2", Isa::kAvx2},
                                            {"avx512", Isa::kAvx512}};
  command.add_option("--isa", isa, "Instruction set: best, portable, avx2 or avx512")
      ->transform(CLI::CheckedTransformer(names))
      ->default_str("best");
}

}  // namespace beryl::bench
