// In which number type a run held its activations: what its manifest says, and what the bits of its values say.
#pragma once
#include "core/dtype.h"
#include "parity/trace.h"

namespace plumb {

// One of F64, F32, F16, BF16. A coarser type than the manifest's where most captured tensors are stored in it, or hold only numbers
// that it can hold: values are often widened as they are written, and narrowed to save room. A finer one never: an engine may hold a few
// results wide. Without the manifest's word, by the values alone.
DType run_type(const Trace& trace);

// Whether the values were made coarser as they were written: the manifest's word is finer than run_type(). What such a stage was computed
// from is not quite what was captured.
bool narrowed(const Trace& trace);

}  // namespace plumb
