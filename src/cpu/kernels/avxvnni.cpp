// The kernels for avxvnni; CMakeLists.txt gives this file its flags.
#define PLUMB_CPU_NAME "avxvnni"
#define PLUMB_CPU_TABLE kAvxVnniKernels
#include "cpu/kernels/bodies.inc"
