// The kernels for portable; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "portable"
#define PLUMB_CPU_TABLE kPortableKernels
#include "cpu/kernels/bodies.inc"
