// Which values of a hypothesis's number are tried, some at a time, so that many hypotheses can be evaluated together: those that
// configurations hold, then a grid over the range, then ever nearer to the best point of it, and to the right value.
//   for (NumberSearch search(about); !search.wanted().empty(); search.tell(residuals)) residuals = …of each wanted value…
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "parity/hypothesis.h"
#include "parity/minimum.h"

namespace plumb {

struct NumberQuestion {
  const Range* range;
  const FieldValue* right;    // the right value; it may be no number
  double before;              // the residual without the hypothesis
  double good_enough;         // a snap that reaches it ends the search
  std::int64_t known_tokens;  // counts of tokens go no farther
  bool solve;                 // false: snaps alone, where there are any
};

// 0 where it is no number.
double number_of(const FieldValue& value);

class NumberSearch {
 public:
  explicit NumberSearch(const NumberQuestion& about);

  // The values to be tried next; empty: the search is over.
  const std::vector<double>& wanted() const { return wanted_; }
  bool snapping() const { return phase_ == Phase::kSnaps; }
  // The residuals of wanted(), infinite where a value may not be used. `least`: the least that any value has reached.
  void tell(std::span<const double> residuals, double least);

 private:
  enum class Phase { kSnaps, kIntegers, kGrid, kBest, kBeside, kNear, kOver };
  void after_snaps(std::span<const double> residuals);
  void after_grid(std::span<const double> residuals);
  void look_beside(double least);
  void ask(Phase phase, std::vector<double> values);
  void ask_minimum(Phase phase);
  double place(double x) const;

  NumberQuestion about_;
  Phase phase_ = Phase::kOver;
  std::vector<double> wanted_;
  std::optional<Minimum> minimum_;
};

}  // namespace plumb
