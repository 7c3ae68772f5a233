// The kernels for avx512bf16, and products by tiles; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "amx"
#define PLUMB_CPU_TABLE kAmxKernels
#include "cpu/kernels/bodies.inc"
