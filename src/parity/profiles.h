// In whose arithmetic the suspect ran. An honest engine rounds at places of its own; what that costs is measured with the profile of
// the reference executor that rounds where it does (reference/numerics.h).
#pragma once
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/thread_pool.h"
#include "graph/executor.h"
#include "parity/captured.h"
#include "parity/trace.h"
#include "reference/numerics.h"

namespace plumb {

// The arithmetic in which the suspect ran.
enum class SuspectType : std::uint8_t { kFloat32, kBfloat16, kFloat16 };

// Of run_type(): what is finer than float32 is judged as float32.
SuspectType suspect_type(DType run);
// The type in which a suspect's modules hand values on.
DType dtype_of(SuspectType type);

// By the name that an engine gives itself.
bool is_llama_cpp(const std::string& engine);

// Whether the stages recomputed for a check are one, but for ids and positions: its operands were all captured.
bool alone(const BoundGraph& network, const std::vector<int>& span);

// In which an engine of that name (with its path, TraceManifest::engine_words) and type may run: one for a name that is known, else all of
// its type. llama.cpp's are two: with flash attention and without; our own are several where weights are quantised: the reference
// executor's and the cpu executor's, which for weights of two bytes its path tells.
std::vector<Precision> likely_profiles(const BoundGraph& network, SuspectType type, const std::string& engine);

struct Arithmetic {
  SuspectType type;
  // What the suspect's values are measured against: fp64, or where a float32 suspect rounds what meets a weight as llama.cpp or our
  // cpu executor does, that profile. Decided by which is nearer at products whose operands were captured; without any, by the engine's name: then
  // both of llama.cpp's are profiles, as where no attention tells them apart.
  Precision formula;
  // In which an engine of the type may have run, that of the engine's name first.
  std::vector<Precision> profiles;
  bool named = false;  // the engine says that it is one whose roundings a profile follows
  bool narrowed = false;  // values were rounded as they were written: what a stage was computed from is only near to what was captured
};

// `engine`: the suspect's name for itself, or "".
Arithmetic arithmetic_of(const BoundGraph& network, const Captured& captured, SuspectType type,
                         const std::string& engine, ThreadPool& pool);
// The same of a trace's run; `captured` is what it holds.
Arithmetic arithmetic_of(const BoundGraph& network, const Captured& captured, const Trace& trace, ThreadPool& pool);

}  // namespace plumb
