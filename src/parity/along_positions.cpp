#include "parity/along_positions.h"

#include <algorithm>

namespace plumb {
namespace {

constexpr std::size_t kMostLines = 6;
constexpr std::size_t kRightLines = 3;
constexpr double kRowSpread = 6;  // one row may be as much farther
constexpr std::int64_t kMostPositions = 1 << 16;

std::vector<const Check*> nearest_to_their_budgets(const std::vector<const Check*>& usable) {
  std::vector<const Check*> nearest = usable;
  std::stable_sort(nearest.begin(), nearest.end(), [](const Check* a, const Check* b) {
    return a->residual.relative_l2 * b->budget > b->residual.relative_l2 * a->budget;
  });
  return nearest;
}

std::vector<std::string> stages_to_show(const std::vector<const Check*>& usable) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& stage) {
    if (std::find(names.begin(), names.end(), stage) == names.end()) names.push_back(stage);
  };
  for (const Check* check : usable) {
    if (check->fails && names.size() < kMostLines) add(check->stage);
  }
  if (names.empty()) {
    for (const Check* check : nearest_to_their_budgets(usable)) {
      if (names.size() < kRightLines) add(check->stage);
    }
  }
  for (const Check* check : usable) {
    if (check->stage == "logits" || check->stage == "logprobs") add(check->stage);
  }
  return names;
}

void add_pass(Checker& checker, const Check& check, PositionErrors& line) {
  const TraceStep& step = checker.captured().steps()[check.step];
  const Tensor ours = checker.computed(check, {});
  if (checker.suspect(check).shape != ours.shape) return;  // fewer keys, another number of choices
  const auto errors = row_errors(checker.suspect(check), ours);
  const std::int64_t end = step.first + step.count;
  const std::int64_t first = end - std::ssize(errors);
  if (first < 0 || end > kMostPositions) return;
  line.ratios.resize(std::max(line.ratios.size(), static_cast<std::size_t>(end)));
  for (std::size_t i = 0; i < errors.size(); ++i)
    line.ratios[static_cast<std::size_t>(first) + i] = errors[i] / (kRowSpread * check.budget);
}

}  // namespace

std::vector<PositionErrors> along_positions(Checker& checker, const std::vector<Check>& checks) {
  std::vector<const Check*> usable;
  for (const Check& check : checks) {
    if (!check.exact && checker.network().graph.output(check.value).per_token) usable.push_back(&check);
  }
  std::vector<PositionErrors> lines;
  for (const std::string& name : stages_to_show(usable)) {
    PositionErrors line{.stage = name, .first = 0, .ratios = {}};
    for (const Check* check : usable) {
      if (check->stage == name) add_pass(checker, *check, line);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace plumb
