// Row 36 of docs/causes.md: positions.
#include "parity/rungs.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "parity/rung_results.h"

namespace plumb {

RungResult check_positions(const Captured& suspect) {
  constexpr const char* kRung = "positions";
  std::int64_t next = 0;
  std::int64_t seen = 0;
  std::optional<double> offset;
  for (std::size_t s = 0; s < suspect.steps().size(); ++s) {
    const TraceStep& step = suspect.steps()[s];
    if (step.first != next)
      return unseen_rung(kRung, fmt::format("pass {} begins at position {}, the one before ends at {}: what lies between is not in the "
                                       "trace",
                                       s, step.first, next));
    next += step.count;
    const auto held = suspect.value(s, "positions");
    if (!held || std::ssize(held->values.data) != step.count) continue;
    for (std::int64_t t = 0; t < step.count; ++t) {
      const double found = held->values.data[static_cast<std::size_t>(t)];
      const auto right = static_cast<double>(step.first + t);
      if (!offset) offset = found - right;
      if (found - right == *offset && std::abs(*offset) < 1e9) continue;
      Finding result = rung_finding("positions", "36", "the positions do not follow each other as the tokens do",
                               step.first + t, found);
      result.evidence.residual_before = std::abs(found - right);
      return wrong_rung(kRung, std::move(result));
    }
    seen += step.count;
  }
  if (!offset) return unseen_rung(kRung, "no positions were captured");
  if (*offset == 0) return right_rung(kRung, fmt::format("the {} positions captured are their tokens' own", seen));
  Finding result = rung_finding("positions", "36", "positions are shifted", std::int64_t{0},
                           static_cast<std::int64_t>(*offset));
  result.field = "rope.position_offset";
  return wrong_rung(kRung, std::move(result));
}

}  // namespace plumb
