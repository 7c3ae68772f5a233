// The kernels for avx512vnni; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "avx512vnni"
#define PLUMB_CPU_TABLE kAvx512VnniKernels
#include "cpu/kernels/bodies.inc"
