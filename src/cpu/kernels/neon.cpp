// The kernels for neon; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "neon"
#define PLUMB_CPU_TABLE kNeonKernels
#include "cpu/kernels/bodies.inc"
