// What is known about the GPUs of this machine, without throwing: for messages and for sizing.
#pragma once

#include <cstddef>
#include <string>

namespace beryl::kernels::cuda {

struct DeviceInfo {
  bool is_usable = false;
  std::string problem;  // why not: what was found and what is needed, one line
  std::string name;     // "NVIDIA H100 80GB HBM3"
  int compute_major = 0;
  int compute_minor = 0;
  int num_sms = 0;
  int max_shared_bytes = 0;  // of a block, opted in
  bool has_wgmma = false;    // and this build has code for it (sm_90a)
  size_t total_bytes = 0;
  size_t free_bytes = 0;
};

// The same device as if it could do no more than sm_80: what plans of kernels look at.
DeviceInfo as_sm_80(const DeviceInfo& info);

// Without a driver or a device this returns at once.
DeviceInfo query_device(int device);

}  // namespace beryl::kernels::cuda
