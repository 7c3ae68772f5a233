// What an engine captured, as the graph's stages see it: which steps it ran, which ids it fed, and values by stage name in the
// layout of the trace format. A trace is one; a trace of an engine with names and layouts of its own, aligned, is another.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "graph/tensor.h"

namespace plumb {

// One forward pass: positions first … first + count - 1.
struct TraceStep {
  std::int64_t first;
  std::int64_t count;
};

struct CapturedValue {
  Tensor values;
  DType dtype;  // in which the engine held them
};

// Which of entries of equal score an index chooses, where its choice was not captured: those of lowest number, or those that torch.topk leaves in
// front.
enum class Ties : std::uint8_t { kLowest, kTorch };

// Of two entries that a router or an index scores alike but for rounding, the one that the suspect took (near_ties.h).
struct Preference {
  std::size_t step;
  int stage;
  std::int64_t token;  // of the step
  double out;          // the entry that our scores say
  double in;           // the one taken in its place
  double gap;          // of their scores, at most
};

class Captured {
 public:
  virtual ~Captured() = default;
  virtual const std::vector<TraceStep>& steps() const = 0;
  // The ids fed in `step`; empty where they are not known.
  virtual std::vector<std::int32_t> fed_ids(std::size_t step) const = 0;
  // Null when the stage was not captured in that step.
  virtual std::shared_ptr<const CapturedValue> value(std::size_t step,
                                                     std::string_view stage) const = 0;
  // Tokens of the sequence that the engine knew in `step`: rotary tables may follow from them.
  virtual std::int64_t known_length(std::size_t step) const { return steps()[step].first + steps()[step].count; }
  virtual Ties ties() const { return Ties::kLowest; }
  virtual std::span<const Preference> preferences() const { return {}; }
};

}  // namespace plumb
