#include "parity/suspect_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/sampler.h"
#include "parity/near_ties.h"
#include "parity/profiles.h"

namespace plumb {
namespace {

// How well a reading explains the values: checks passed less checks failed, then by how much they fail.
struct Score {
  std::int64_t passed = 0;
  double excess = 0;

  bool better_than(const Score& other) const {
    constexpr double kClearly = 0.8;  // where the same checks fail, a fault of its own makes either look somewhat better
    return passed != other.passed ? passed > other.passed : excess < kClearly * other.excess;
  }
};

Score score_of(const std::vector<Check>& checks) {
  Score score;
  for (const Check& check : checks) {
    score.passed += check.fails ? -1 : 1;
    if (check.fails) score.excess += std::log(1 + check.residual.relative_l2 / std::max(check.budget, 1e-12));
  }
  return score;
}

bool attends(const BoundGraph& network, const Check& check) {
  const Operation& operation = network.graph.stages[static_cast<std::size_t>(check.value.stage)].operation;
  return std::holds_alternative<Attend>(operation) || std::holds_alternative<AttendShared>(operation);
}

// The first value that tells the two readings apart: right with the padding among the tokens, wrong without it.
const Check* told_by(const SuspectView& with, const SuspectView& without) {
  for (const Check& check : without.checks()) {
    if (!check.fails) continue;
    const auto same = std::find_if(with.checks().begin(), with.checks().end(), [&](const Check& other) {
      return other.step == check.step && other.stage == check.stage;
    });
    if (same != with.checks().end() && !same->fails) return &check;
  }
  return nullptr;
}

// Whether the first token generated is the largest logit of the first pass's last row.
bool chooses_from_the_last_row(const SuspectView& view) {
  const auto logits = view.aligned().value(0, "logits");
  if (!logits || logits->values.tokens() < 1 || view.manifest().generated.empty()) return false;
  return argmax(logits->values.row(logits->values.tokens() - 1)) == view.manifest().generated.front();
}

// Of two readings that explain the values alike. Padding behind the prompt shows in nothing before it: the row from which the engine chose
// tells.
bool prefers_cut(const SuspectView& with, const SuspectView& without) {
  if (!without.padding().known) return false;
  return without.padding().left > 0 || (chooses_from_the_last_row(without) && !chooses_from_the_last_row(with));
}

// Whether what may be padding is a stop id that an engine put behind its prompt, and answered: the tokens are wrong, not the mask.
bool is_appended_stop(const Model& model, const SuspectView& whole, const Padding& padding) {
  const auto& ids = whole.manifest().token_ids;
  const bool stops = !ids.empty() && std::ranges::find(model.stop_ids, ids.back()) != model.stop_ids.end();
  return padding.right == 1 && stops && chooses_from_the_last_row(whole);
}

Finding padding_attended(const Check& check, const Check& right, const Padding& padding) {
  Finding finding;
  finding.stage = check.stage;
  finding.row = finding.cause_row = "44";
  finding.cause = "the prompt's tokens attend to the padding: " + to_string(padding);
  finding.field = "attend.padding";
  finding.expected = std::int64_t{0};
  finding.found = padding.count();
  finding.evidence.residual_before = check.residual.relative_l2;
  finding.evidence.residual_after = right.residual.relative_l2;
  finding.evidence.budget = check.budget;
  finding.evidence.bit_match_before = check.residual.bit_match;
  finding.evidence.bit_match_after = right.residual.bit_match;
  finding.stages = {check.stage};
  return finding;
}

// With the padding among the tokens their positions are rotated as they stand; an engine that counts them from the prompt's first token is
// right there all the same, as the other reading says.
void forgive_rotation(const BoundGraph& network, std::vector<Check>& checks, const SuspectView& without) {
  for (Check& check : checks) {
    const bool rope = std::holds_alternative<Rope>(network.graph.stages[static_cast<std::size_t>(check.value.stage)].operation);
    if (!rope || !check.fails) continue;
    check.fails = std::none_of(without.checks().begin(), without.checks().end(), [&](const Check& other) {
      return other.step == check.step && other.stage == check.stage && !other.fails;
    });
  }
}

}  // namespace

SuspectView::SuspectView(const Model& model, const Trace& trace, const Padding& padding, ThreadPool& pool)
    : padding_(padding),
      fitted_(fit_trace(model.network.graph, trace, padding)),
      aligned_(fitted_.trace, model.network, pool),
      network_(model.network),
      pool_(pool),
      checker_(std::in_place, model.network, aligned_, arithmetic_of(model.network, aligned_, fitted_.trace, pool), pool) {}

void SuspectView::check(const std::function<bool(const std::string& output)>& wanted, Progress& progress) {
  const auto run = [&] {
    if (wanted) checker_->keep_to(wanted);
    checks_ = checker_->run(progress);
  };
  run();
  auto preferences = preferences_of(network_, aligned_, checker_->arithmetic(), pool_, checks_);
  if (preferences.empty()) return;
  const Arithmetic arithmetic = checker_->arithmetic();
  aligned_.prefer(std::move(preferences));
  checker_.emplace(network_, aligned_, arithmetic, pool_);
  run();
}

ChosenView choose_view(const Model& model, const Trace& trace, const std::function<bool(const std::string& output)>& wanted,
                       Progress& progress, ThreadPool& pool) {
  const auto read = [&](const Padding& padding) {
    auto view = std::make_unique<SuspectView>(model, trace, padding, pool);
    view->check(wanted, progress);
    return view;
  };
  ChosenView chosen;
  auto whole = read({});
  std::unique_ptr<SuspectView> best;
  for (const Padding& padding : possible_paddings(model, trace)) {
    auto view = read(padding);
    if (best == nullptr || score_of(view->checks()).better_than(score_of(best->checks()))) best = std::move(view);
  }
  chosen.prompt = trace.manifest();
  if (best == nullptr) {
    chosen.view = std::move(whole);
    return chosen;
  }
  const Score with = score_of(whole->checks());
  const Score without = score_of(best->checks());
  const bool attention = std::ranges::any_of(whole->checks(), [&](const Check& check) { return attends(model.network, check); });
  const Check* told = best->padding().known && best->padding().in_ids ? told_by(*whole, *best) : nullptr;
  const bool attended = told != nullptr && (with.better_than(without) || (attention && attends(model.network, *told)));
  if (attended && is_appended_stop(model, *whole, best->padding())) {
    chosen.view = std::move(whole);
    return chosen;
  }
  if (attended) {
    const auto right = std::find_if(whole->checks().begin(), whole->checks().end(), [&](const Check& other) {
      return other.step == told->step && other.stage == told->stage;
    });
    chosen.attended = padding_attended(*told, *right, best->padding());
    chosen.prompt = best->manifest();
    forgive_rotation(model.network, whole->checks(), *best);
    chosen.view = std::move(whole);
    return chosen;
  }
  const bool cut = without.better_than(with) || (!with.better_than(without) && prefers_cut(*whole, *best));
  if (cut) chosen.note = to_string(best->padding()) + " were cut: the values are those of a prompt without";
  if (cut) chosen.prompt = best->manifest();
  chosen.view = cut ? std::move(best) : std::move(whole);
  return chosen;
}

}  // namespace plumb
