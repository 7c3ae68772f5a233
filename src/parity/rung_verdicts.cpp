// A rung of stages is right when every check on it is within its budget, or beyond it for a cause that reaches no output.
#include "parity/rung_verdicts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "parity/search.h"

namespace plumb {
namespace {

// Rows of docs/causes.md that a weight read or loaded wrongly explains.
bool is_about_weights(const std::string& row) {
  static const std::set<std::string> rows = {"13", "14", "15", "16", "18", "19",
                                             "20a", "20b", "20c", "20d", "20e"};
  return rows.contains(row);
}

const Stage& stage_of(const BoundGraph& network, int index) {
  return network.graph.stages[static_cast<std::size_t>(index)];
}

double over_budget(const Check& check) {
  return std::max(check.residual.relative_l2, check.residual.worst_row / 6) / check.budget;
}

class Ladder {
 public:
  Ladder(const BoundGraph& network, const std::vector<Check>& checks,
         const std::vector<Finding>& findings, std::size_t passes)
      : network_(network), checks_(checks), findings_(findings), passes_(passes) {}

  Rung positions(Rung captured) const {
    if (const Finding* shifted = find([](const Finding& f) { return f.field == "rope.position_offset"; }))
      return of_finding("positions", *shifted);
    if (captured.verdict != RungVerdict::kNotObserved || captured.why != "no positions were captured")
      return captured;
    std::size_t rotations = 0;
    for (const Check& check : checks_) {
      if (!check.fails && spans(check, [](const Stage& stage) { return std::holds_alternative<Rope>(stage.operation); }))
        ++rotations;
    }
    if (rotations == 0) return captured;
    return {"positions", RungVerdict::kOk,
            fmt::format("{} value{} captured behind a rotation, right at the passes' own positions", rotations,
                        rotations == 1 ? " was" : "s were")};
  }

  Rung weights() const {
    if (const Finding* found = find([](const Finding& f) { return is_about_weights(f.cause_row) && !f.field.starts_with("report."); }))
      return of_finding("weights", *found);
    std::set<int> seen;
    for (const Check& check : checks_) {
      if (check.fails || check.exact) continue;
      for (const int index : check.span)
        seen.insert(stage_of(network_, index).params.begin(), stage_of(network_, index).params.end());
    }
    if (seen.empty())
      return {"weights", RungVerdict::kNotObserved,
              "the trace holds no weights, and no value that was captured and is right needs one"};
    return {"weights", RungVerdict::kOk,
            fmt::format("{} of {} tensors of the checkpoint give values that were captured; the trace holds no weights themselves",
                        seen.size(), network_.graph.params.size())};
  }

  Rung embedding() const {
    return of_checks("embedding", "no value before the first layer was captured", [&](const Check& check) {
      return check.value.stage < first_layer();
    });
  }

  Rung stages() const {
    return of_checks("stages", "no stage between the embedding and the logits was captured", [&](const Check& check) {
      return check.step == 0 && check.value.stage >= first_layer() && !is_logits(check);
    });
  }

  // What goes wrong in a later pass alone is what was kept between them.
  Rung state() const {
    if (passes_ < 2) return {"state across steps", RungVerdict::kNotObserved, "the trace has one pass alone"};
    std::set<std::string> wrong_at_once;
    for (const Check& check : checks_) {
      if (check.fails && check.step == 0) wrong_at_once.insert(check.stage);
    }
    return of_checks("state across steps", "nothing was captured in the passes after the first", [&](const Check& check) {
      return check.step > 0 && !is_logits(check) && !wrong_at_once.contains(check.stage);
    });
  }

  Rung logits() const {
    return of_checks("logits", "neither logits nor log-probabilities were captured",
                     [&](const Check& check) { return is_logits(check); });
  }

 private:
  const Finding* find(const std::function<bool(const Finding&)>& wanted) const {
    const auto found = std::find_if(findings_.begin(), findings_.end(), wanted);
    return found == findings_.end() ? nullptr : &*found;
  }

  bool spans(const Check& check, const std::function<bool(const Stage&)>& wanted) const {
    return std::any_of(check.span.begin(), check.span.end(),
                       [&](int index) { return wanted(stage_of(network_, index)); });
  }

  int first_layer() const {
    const auto& stages = network_.graph.stages;
    const auto found = std::find_if(stages.begin(), stages.end(), [](const Stage& stage) { return stage.layer >= 0; });
    return static_cast<int>(found - stages.begin());
  }

  bool is_logits(const Check& check) const { return check.value.stage == network_.graph.logits.stage; }

  static Rung of_finding(const char* name, const Finding& finding) {
    return {name, finding.harmless ? RungVerdict::kOk : RungVerdict::kFault,
            fmt::format("{}: {}{}{}", finding.stage, finding.cause,
                        finding.row.empty() ? "" : fmt::format(" (row {})", finding.row),
                        finding.harmless ? "; no output changes" : "")};
  }

  Rung of_checks(const char* name, const char* none, const std::function<bool(const Check&)>& wanted) const {
    std::set<std::string> all;
    std::set<std::string> wrong;
    std::string first;
    double nearest = 0;
    std::string where;
    for (const Check& check : checks_) {
      if (check.exact || !wanted(check)) continue;
      all.insert(check.stage);
      if (check.fails) {
        wrong.insert(check.stage);
        if (first.empty()) first = check.stage;
      } else if (over_budget(check) >= nearest) {
        nearest = over_budget(check);
        where = check.stage;
      }
    }
    if (all.empty()) return {name, RungVerdict::kNotObserved, none};
    if (wrong.empty()) {
      return {name, RungVerdict::kOk,
              all.size() == 1 ? fmt::format("at {:.2g} of the budget", nearest)
                              : fmt::format("{} stages, nearest to its budget {}, at {:.2g} of it", all.size(), where, nearest)};
    }
    const bool harmless = std::all_of(wrong.begin(), wrong.end(), [&](const std::string& stage) {
      return std::any_of(findings_.begin(), findings_.end(), [&](const Finding& f) {
        return f.harmless && std::find(f.stages.begin(), f.stages.end(), stage) != f.stages.end();
      });
    });
    return {name, harmless ? RungVerdict::kOk : RungVerdict::kFault,
            fmt::format("{} of {} stage{} beyond the budget, {} first{}", wrong.size(), all.size(), all.size() == 1 ? "" : "s",
                        first, harmless ? "; no output changes" : "")};
  }

  const BoundGraph& network_;
  const std::vector<Check>& checks_;
  const std::vector<Finding>& findings_;
  std::size_t passes_;
};

}  // namespace

std::vector<Rung> ladder_of(const BoundGraph& network, const std::vector<Check>& checks,
                            const std::vector<Finding>& findings, std::size_t passes,
                            const OuterRungs& outer) {
  const Ladder ladder(network, checks, findings, passes);
  return {outer.prompt,      outer.token_ids,  ladder.positions(outer.positions), ladder.weights(),
          ladder.embedding(), ladder.stages(), ladder.state(),                    ladder.logits(),
          outer.sampler,      outer.stop};
}

}  // namespace plumb
