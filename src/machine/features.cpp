// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2A, CPUID; AMX: volume 1, chapter 18, and Linux's
// Documentation/arch/x86/xstate.rst.
#include "machine/features.h"

#include <fstream>
#include <map>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#include <thread>

namespace plumb::machine {
namespace {

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

bool bit(unsigned word, int index) {
  return ((word >> index) & 1U) != 0;
}

// Tiles are 8 KiB of state that a process gets only when it asks.
bool granted_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Features detect() {
  Features found;
  __builtin_cpu_init();  // its answers include what the operating system saves
  found.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!found.avx2) return found;
  const Registers wide = cpuid(7, 0).a >= 1 ? cpuid(7, 1) : Registers{};  // leaf 7 says how many there are
  found.avx_vnni = bit(wide.a, 4);
  found.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!found.avx512) return found;
  found.avx512_vnni = __builtin_cpu_supports("avx512vnni");
  found.avx512_bf16 = bit(wide.a, 5);
  const Registers structured = cpuid(7, 0);
  if (bit(structured.d, 24) && granted_tiles()) {
    found.amx_bf16 = bit(structured.d, 22);
    found.amx_int8 = bit(structured.d, 25);
  }
  return found;
}
#else
Features detect() {
  return {};
}
#endif

}  // namespace

const Features& features() {
  static const Features found = detect();
  return found;
}

std::string to_string(const Features& features) {
  const std::pair<bool, const char*> names[] = {
      {features.avx2, "avx2"},
      {features.avx_vnni, "avx_vnni"},
      {features.avx512, "avx512"},
      {features.avx512_vnni, "avx512_vnni"},
      {features.avx512_bf16, "avx512_bf16"},
      {features.amx_int8, "amx_int8"},
      {features.amx_bf16, "amx_bf16"},
  };
  std::string text;
  for (const auto& [present, name] : names) {
    if (present) text += (text.empty() ? "" : ", ") + std::string(name);
  }
  return text.empty() ? "none" : text;
}

Processor processor() {
  std::ifstream file("/proc/cpuinfo");
  std::map<std::string, std::string> fields;  // of the first processor
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) continue;
    fields.emplace(line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1),
                   line.substr(colon + 2));
  }
  Processor found{.model = fields["model name"], .cores = 1};
  if (found.model.empty()) found.model = "a processor that the system does not name";
  if (!fields["cpu family"].empty())
    found.model += ", family " + fields["cpu family"] + " model " + fields["model"];
  found.cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) found.cores = CPU_COUNT(&allowed);
#endif
  return found;
}

}  // namespace plumb::machine
