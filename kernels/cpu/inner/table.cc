#include "kernels/cpu/inner/inner.h"

namespace beryl::kernels::cpu::BERYL_ISA {

const KernelTable kTable = {
    .pack_row = pack_row,
    .matmul = matmul,
    .gelu_mul_pack = gelu_mul_pack,
    .scale_row = scale_row,
    .add_rows = add_rows,
    .add_scale_rows = add_scale_rows,
    .softcap_row = softcap_row,
    .embed_row = embed_row,
    .norm_row = norm_row,
    .mul_weight = mul_weight,
    .add_weights = add_weights,
    .standardize_row = standardize_row,
    .rotate_pairs = rotate_pairs,
    .attention_tile = attention_tile,
    .merge_softmax = merge_softmax,
    .divide_row = divide_row,
    .scan_logits = scan_logits,
    .exp_masses = exp_masses,
};

}  // namespace beryl::kernels::cpu::BERYL_ISA
