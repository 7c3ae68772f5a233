// The kernels for avx2; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "avx2"
#define PLUMB_CPU_TABLE kAvx2Kernels
#include "cpu/kernels/bodies.inc"
