// The probe's kernel as C++.
#include "tests/kernels/cuda/hopper_probe.cu"
