// CPUID, by the compiler's own reading of it, which includes what the operating system saves; on AArch64 what Linux says.
#include "cpu/isa.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <string>

#include "cpu/kernels/kernels.h"
#include "machine/features.h"

namespace plumb::cpu {

const Kernels* avxvnni_stand_in = nullptr;

#if defined(__x86_64__)
namespace {

bool stands_in(const machine::Features& features) {
  return avxvnni_stand_in != nullptr && !features.avx_vnni && features.avx512_vnni;
}

}  // namespace
#endif

std::string_view to_string(Isa isa) {
  constexpr std::string_view kNames[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "amx", "neon"};
  return kNames[static_cast<std::size_t>(isa)];
}

std::vector<Isa> available_isas() {
  std::vector<Isa> found = {Isa::kPortable};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return found;
  // Every processor with AVX2 and FMA has F16C; GCC 12 has no name for it here.
  found.push_back(Isa::kAvx2);
  const machine::Features& features = machine::features();  // it asks the operating system for AMX's tiles
  if (features.avx_vnni || stands_in(features)) found.push_back(Isa::kAvxVnni);
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return found;
  }
  found.push_back(Isa::kAvx512);
  if (!__builtin_cpu_supports("avx512vnni")) return found;
  found.push_back(Isa::kAvx512Vnni);
  if (!__builtin_cpu_supports("avx512bf16")) return found;
  found.push_back(Isa::kAvx512Bf16);
  if (features.amx_int8 && features.amx_bf16) found.push_back(Isa::kAmx);
#elif defined(__aarch64__) && defined(__APPLE__)
  found.push_back(Isa::kNeon);
#elif defined(__aarch64__) && defined(__linux__)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) found.push_back(Isa::kNeon);
#endif
  return found;
}

Result<Isa> isa_from_name(std::string_view name) {
  const std::vector<Isa> available = available_isas();
  if (name == "auto") return available.back();
  std::string known;
  for (const Isa isa : available) {
    if (to_string(isa) == name) return isa;
    known += (known.empty() ? "" : ", ") + std::string(to_string(isa));
  }
  return Error{ErrorCode::kInvalidArgument, "the instruction set \"" + std::string(name) +
                                                "\" is not one that this machine runs: it has " +
                                                known};
}

#if defined(__x86_64__)
namespace {

// Those of avx512vnni: its sums of two products of 16-bit integers are as quick as those of bfloat16, and more exact.
const Kernels& bf16_kernels() {
  static const Kernels kernels = [] {
    Kernels same = kAvx512VnniKernels;
    same.name = "avx512bf16";
    return same;
  }();
  return kernels;
}

}  // namespace
#endif

const Kernels& kernels_for(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kPortable:
      return kPortableKernels;
    case Isa::kAvx2:
      return kAvx2Kernels;
    case Isa::kAvxVnni:
      return stands_in(machine::features()) ? *avxvnni_stand_in : kAvxVnniKernels;
    case Isa::kAvx512:
      return kAvx512Kernels;
    case Isa::kAvx512Vnni:
      return kAvx512VnniKernels;
    case Isa::kAvx512Bf16:
      return bf16_kernels();
    case Isa::kAmx:
      return kAmxKernels;
    case Isa::kNeon:
      break;
  }
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return kNeonKernels;
#endif
  static_cast<void>(isa);
  return kPortableKernels;
}

}  // namespace plumb::cpu
