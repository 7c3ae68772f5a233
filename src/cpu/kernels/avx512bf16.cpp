// The kernels for avx512bf16; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "avx512bf16"
#define PLUMB_CPU_TABLE kAvx512Bf16Kernels
#include "cpu/kernels/bodies.inc"
