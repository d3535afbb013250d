// What the device reaches at best, measured: the yardstick of benchmarks.
#pragma once

namespace beryl::kernels::cuda {

// Bytes per second of copies within the device, reads and writes together. Throws DeviceError.
double measure_copy_bandwidth(int device);

// Bytes per second from pinned host memory to the device.
double measure_upload_bandwidth(int device);

}  // namespace beryl::kernels::cuda
