// DeviceLimits: what plans need to know of a GPU.
#pragma once

namespace beryl::kernels::cuda {

struct DeviceLimits {
  int num_sms = 132;
  int max_shared_bytes = 232448;  // of a block, opted in
  bool has_wgmma = false;         // sm_90
};

}  // namespace beryl::kernels::cuda
