// The kernels for avxvnni with EVEX in the code of vpdpbusd and vpdpwssd, and nothing else changed: so that processors with AVX-512 VNNI, most of
// which do not know the VEX form, run them in tests. tests/vex_check.py holds the two to each other instruction by instruction.
#define PLUMB_CPU_NAME "avxvnni (its two instructions as AVX-512 encodes them)"
#define PLUMB_CPU_TABLE kAvxVnniEvexKernels
#define PLUMB_CPU_VNNI "%{evex%} "
#include "cpu/kernels/bodies.inc"

#include "cpu/isa.h"

namespace plumb::cpu {
namespace {

[[maybe_unused]] const bool kLinked = [] {
  avxvnni_stand_in = &kAvxVnniEvexKernels;
  return true;
}();

}  // namespace
}  // namespace plumb::cpu
