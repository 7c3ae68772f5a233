// The kernels for avx512; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "avx512"
#define PLUMB_CPU_TABLE kAvx512Kernels
#include "cpu/kernels/bodies.inc"
