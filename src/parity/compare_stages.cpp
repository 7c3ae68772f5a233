// The stages in order, each against its budget.
#include "parity/compare_stages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "parity/compare_budget.h"
#include "parity/compare_models.h"
#include "parity/compare_words.h"
#include "parity/compare_tokens.h"

namespace plumb {
namespace {

constexpr double kRowSpread = 6;  // one row may be this much farther than all together

// How many entries stand after the keys in each row: the compressed blocks that the pass saw.
void mark_extra_keys(const TraceSide& side, const StagePair& pair, const StagePieces& stage,
                     RowSet& rows) {
  const StagePieces* blocks = side.find_role(stage.name.layer, "attn.compressed");
  if (blocks == nullptr || !is_over_keys(stage_name(pair.stage).role)) return;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const auto& piece : blocks->pieces) {
      if (piece.step == rows.steps[i] && !piece.tensor->shape.empty())
        rows.extra_keys[i] = piece.tensor->shape[0];
    }
  }
}

// What a row's numbers of choice are, as a set; the order among them says nothing.
std::set<std::int64_t> choices(std::span<const double> row) {
  std::set<std::int64_t> set;
  for (const double value : row) {
    if (std::isfinite(value) && std::abs(value) < 1e15)
      set.insert(static_cast<std::int64_t>(value));
  }
  return set;
}

// What a layer computes of a token's own vector before attention looks at others.
bool before_mixing(std::string_view role) {
  return role == "attn.norm" || role == "attn.v" || role.starts_with("attn.q") || role.starts_with("attn.k");
}

class Comparer {
 public:
  Comparer(const Trace& a, const Trace& b, const std::set<std::int64_t>& left_out)
      : a_(a), b_(b), left_(a), right_(b), noise_(unit_between(a, b)), flipped_(left_out) {}

  Result<Comparison> run() {
    PLUMB_TRY_STATUS(check_models(a_, b_, result_.notes));
    PLUMB_TRY(result_.tokens, match_tokens(left_, right_));
    result_.not_observed = result_.tokens.notes;
    result_.a_words = run_words(a_);
    result_.b_words = run_words(b_);
    pairing_ = pair_stages(left_, right_, result_.tokens);
    choices_first();
    for (const StagePair& pair : pairing_.pairs)
      ++detail_[stage_name(pair.stage).layer];
    for (const Trace* trace : {&a_, &b_})
      depth_ = std::max(depth_, layers_of(*trace));
    for (const StagePair& pair : pairing_.pairs)
      compare_stage(pair);
    compare_reported();
    const auto unobserved = unobserved_stages(pairing_);
    result_.not_observed.insert(result_.not_observed.end(), unobserved.begin(), unobserved.end());
    result_.transforms = transforms_of(result_.stages);
    result_.left_out = flipped_;
    for (std::size_t step = 1; step < a_.steps().size(); ++step)
      result_.decode_marks.push_back(a_.steps()[step].first);
    for (std::size_t i = 0; i < result_.stages.size(); ++i) {
      if (result_.stages[i].fails && !result_.first_fault) result_.first_fault = i;
    }
    return std::move(result_);
  }

 private:
  // Whether weights are of the same experts is known before they are compared, whichever the engine computes first.
  void choices_first() {
    auto& pairs = pairing_.pairs;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const StageName name = stage_name(pairs[i].stage);
      if (name.role != "moe.ids") continue;
      for (std::size_t j = 0; j < i; ++j) {
        const StageName earlier = stage_name(pairs[j].stage);
        if (earlier.layer != name.layer || earlier.role != "moe.weights") continue;
        std::rotate(pairs.begin() + static_cast<std::ptrdiff_t>(j),
                    pairs.begin() + static_cast<std::ptrdiff_t>(i),
                    pairs.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        break;
      }
    }
  }

  void compare_stage(const StagePair& pair) {
    CommonRows rows = common_rows(left_, right_, pair, result_.tokens, 0);
    if (rows.a.size() == 0) {
      result_.not_observed.push_back(
          fmt::format("\"{}\": no position that both sides hold", pair.stage));
      return;
    }
    const StageName name = stage_name(pair.stage);
    mark_extra_keys(left_, pair, *pair.a, rows.a);
    mark_extra_keys(right_, pair, *pair.b, rows.b);
    ComparedStage stage;
    stage.stage = pair.stage;
    stage.a_name = pair.a->theirs;
    stage.b_name = pair.b->theirs;
    stage.by = pair.by;
    stage.transforms = pair.transforms;
    if (is_choice(name.role)) {
      compare_choices(pair, name, rows, stage);
    } else {
      reorder_weights(name, rows);
      stage.measure = measure(rows.a, rows.b, pair.source, pair.a_is_wide, pair.keyed, flipped_);
      if (!flipped_.empty()) follow_ties(name, rows, pair);
      judge(name, stage);
      if (stage.fails) stage.words = peculiarity(rows, pair);
    }
    for (const std::int64_t position : rows.a.positions) {
      if (!flipped_.contains(position) || is_choice(name.role)) stage.positions.push_back(position);
    }
    faulty_ = faulty_ || stage.fails;
    if (stage.measure.positions > 0) result_.stages.push_back(std::move(stage));
  }

  // Later layers attend to positions that were left out: what these are apart reaches all behind them.
  void follow_ties(const StageName& name, const CommonRows& rows, const StagePair& pair) {
    if (name.layer > tied_layer_ && !before_mixing(name.role)) noise_.carry(left_out_);
    if (!pair.keyed)
      left_out_ = std::max(left_out_, measure(rows.a, rows.b, pair.source, pair.a_is_wide, false, {}).relative_l2);
  }

  // What one side reports as log-probabilities against the other's logits.
  void compare_reported() {
    const auto rows = reported_logprobs(left_, right_, result_.tokens);
    if (!rows) return;
    ComparedStage stage;
    stage.stage = "logprobs";
    stage.a_name = stage.b_name = "logprobs";
    stage.transforms.push_back(rows->of_a
                                   ? "B's are those of its logits, for the ids that A reports"
                                   : "A's are those of its logits, for the ids that B reports");
    stage.measure = measure(rows->a, rows->b, {}, false, false, flipped_);
    judge(stage_name("logprobs"), stage);
    if (stage.fails) stage.words = peculiarity({.a = rows->a, .b = rows->b}, {});
    for (const std::int64_t position : rows->a.positions) {
      if (!flipped_.contains(position)) stage.positions.push_back(position);
    }
    std::erase_if(rows->of_a ? pairing_.only_a : pairing_.only_b,
                  [](const std::string& name) { return name.rfind("logprobs", 0) == 0; });
    std::erase_if(rows->of_a ? pairing_.only_b : pairing_.only_a,
                  [](const std::string& name) { return stage_name(name).role == "logits"; });
    result_.stages.push_back(std::move(stage));
  }

  // Layers up to this stage, after the last that was compared, of which too few stages were captured for errors to be followed.
  int unseen_layers(const StageName& name) {
    constexpr int kDetailed = 6;  // stages
    constexpr int kUnknownDepth = 8;
    const bool ends = name.role == "norm" || name.role == "logits" || name.role == "logprobs";
    int last = name.layer;
    if (name.layer < 0 && ends && !ended_)
      last = depth_ > 0 ? depth_ - 1 : layer_ < 0 ? kUnknownDepth : layer_;
    if (name.layer < 0 && !ends) last = layer_;
    int unseen = 0;
    for (int layer = layer_ + 1; layer <= last; ++layer)
      unseen += detail_[layer] < kDetailed ? 1 : 0;
    if (name.layer >= 0 && name.layer == layer_ && detail_[layer_] < kDetailed) unseen = 1;
    ended_ = ended_ || ends;
    layer_ = std::max(layer_, last);
    return unseen;
  }

  void judge(const StageName& name, ComparedStage& stage) {
    const Measure& m = stage.measure;
    stage.budget = noise_.budget(name.role, unseen_layers(name));
    stage.ratio = m.broken > 0 ? std::numeric_limits<double>::infinity()
                               : std::max(m.relative_l2 / stage.budget,
                                          m.worst_row / (kRowSpread * stage.budget));
    stage.fails = !(stage.ratio <= 1);
    if (!stage.fails) noise_.carry(m.relative_l2);
  }

  // Experts and blocks are chosen: rows where the choices differ are near ties or a fault. What a tie changes is left out from
  // there on.
  void compare_choices(const StagePair& pair, const StageName& name, const CommonRows& rows,
                       ComparedStage& stage) {
    std::set<std::int64_t> differ;
    Measure& m = stage.measure;
    std::int64_t equal = 0;
    for (std::size_t i = 0; i < rows.a.size(); ++i) {
      const auto x = choices(rows.a.row(i));
      const auto y = choices(rows.b.row(i));
      const auto shared =
          std::count_if(x.begin(), x.end(), [&](std::int64_t id) { return y.contains(id); });
      const auto most = std::max<std::int64_t>(std::max(std::ssize(x), std::ssize(y)), 1);
      m.elements += most;
      equal += shared;
      m.row_errors.push_back(1 - static_cast<double>(shared) / static_cast<double>(most));
      if (shared == most) continue;
      if (!flipped_.contains(rows.a.positions[i])) differ.insert(rows.a.positions[i]);
      if (!m.largest) {
        m.largest = LargestDifference{.position = rows.a.positions[i], .index = {}, .a = 0, .b = 0};
        for (const std::int64_t id : x) {
          if (!y.contains(id)) m.largest->a = static_cast<double>(id);
        }
        for (const std::int64_t id : y) {
          if (!x.contains(id)) m.largest->b = static_cast<double>(id);
        }
      }
    }
    m.positions = std::ssize(rows.a.positions);
    m.bit_match = m.elements > 0 ? static_cast<double>(equal) / static_cast<double>(m.elements) : 1;
    m.relative_l2 = 1 - m.bit_match;
    m.worst_row = differ.empty() ? 0 : 1;
    stage.budget = 1;
    stage.ratio = 0;
    std::set<std::int64_t> ties;
    for (const std::int64_t position : differ) {
      // After a fault, scores are far apart and every choice looks near.
      if (!faulty_ && tied(name, position, rows)) ties.insert(position);
    }
    if (ties.size() < differ.size()) {
      stage.fails = true;
      stage.ratio = std::numeric_limits<double>::infinity();
      stage.words =
          fmt::format("the choices differ at {} of {} positions", differ.size(), rows.a.size());
      if (!faulty_) stage.words += fmt::format(", {} of them near ties", ties.size());
    } else if (!ties.empty()) {
      result_.notes.push_back(fmt::format(
          "{}: near ties fall differently at {} position{}; {} left out from there on", pair.stage,
          ties.size(), ties.size() > 1 ? "s" : "", ties.size() > 1 ? "they are" : "it is"));
      if (flipped_.empty()) tied_layer_ = name.layer;
      flipped_.insert(ties.begin(), ties.end());
    }
  }

  // Whether the scores of what only one side chose are nearer than the noise of the scores. Where no scores were captured:
  // whether the
  // run's rounding is coarse enough for ties to be likely.
  bool tied(const StageName& name, std::int64_t position, const CommonRows& rows) {
    const auto row_of = [](const RowSet& set, std::int64_t at) -> std::span<const double> {
      const auto found = std::lower_bound(set.positions.begin(), set.positions.end(), at);
      if (found == set.positions.end() || *found != at) return {};
      return set.row(static_cast<std::size_t>(found - set.positions.begin()));
    };
    const auto x = choices(row_of(rows.a, position));
    const auto y = choices(row_of(rows.b, position + result_.tokens.shift));
    if (name.role == "moe.ids") {
      for (const StagePair& scores : pairing_.pairs) {
        const StageName other = stage_name(scores.stage);
        if (other.layer != name.layer ||
            (other.role != "moe.logits" && other.role != "moe.probs") || !scores.source.empty())
          continue;
        const CommonRows held = common_rows(left_, right_, scores, result_.tokens, 0);
        const auto p = row_of(held.a, position);
        const auto q = row_of(held.b, position + result_.tokens.shift);
        if (p.empty() || p.size() != q.size()) continue;
        double noise = 0;
        for (std::size_t i = 0; i < p.size(); ++i)
          noise = std::max(noise, std::abs(p[i] - q[i]));
        double gap = 0;  // between what one side chose and what the other chose in its place
        for (const std::int64_t mine : x) {
          for (const std::int64_t theirs : y) {
            if (y.contains(mine) || x.contains(theirs)) continue;
            if (mine < 0 || theirs < 0 || mine >= std::ssize(q) || theirs >= std::ssize(q))
              return false;
            gap = std::max(gap, std::abs(q[static_cast<std::size_t>(theirs)] -
                                         q[static_cast<std::size_t>(mine)]));
          }
        }
        constexpr double kGapOverNoise = 4;
        if (gap <= kGapOverNoise * noise) return true;
        if (follows_scores(y, q)) return false;
      }
    }
    // A correction bias may stand between scores and choice, and blocks have no captured scores.
    constexpr double kFewRows = 0.15;
    constexpr double kCoarse = 0x1p-13;
    std::size_t differing = 0;
    for (std::size_t i = 0; i < rows.a.size(); ++i)
      differing += choices(rows.a.row(i)) != choices(rows.b.row(i)) ? 1 : 0;
    return noise_.unit() >= kCoarse &&
           static_cast<double>(differing) <= kFewRows * static_cast<double>(rows.a.size());
  }

  // Whether the choice is of the largest scores: no correction bias stands between.
  static bool follows_scores(const std::set<std::int64_t>& choice, std::span<const double> scores) {
    double least = std::numeric_limits<double>::infinity();
    double most = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < scores.size(); ++i) {
      if (choice.contains(static_cast<std::int64_t>(i))) {
        least = std::min(least, scores[i]);
      } else {
        most = std::max(most, scores[i]);
      }
    }
    return least >= most;
  }

  // The weights of chosen experts in the order of the experts' numbers, where both sides say these: order of choice is no
  // difference.
  void reorder_weights(const StageName& name, CommonRows& rows) {
    if (name.role != "moe.weights") return;
    for (const StagePair& ids : pairing_.pairs) {
      const StageName other = stage_name(ids.stage);
      if (other.layer != name.layer || other.role != "moe.ids") continue;
      const CommonRows held = common_rows(left_, right_, ids, result_.tokens, 0);
      const auto sort = [](RowSet& weights, const RowSet& numbers) {
        if (weights.positions != numbers.positions) return;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const auto id = numbers.row(i);
          if (id.size() != weights.row(i).size()) continue;
          std::vector<std::pair<double, double>> order;
          for (std::size_t k = 0; k < id.size(); ++k)
            order.emplace_back(id[k], weights.row(i)[k]);
          std::stable_sort(order.begin(), order.end(),
                           [](const auto& p, const auto& q) { return p.first < q.first; });
          for (std::size_t k = 0; k < order.size(); ++k)
            weights.values[weights.begin[i] + k] = order[k].second;
        }
      };
      if (held.a.positions == rows.a.positions && held.b.positions == rows.b.positions) {
        sort(rows.a, held.a);
        sort(rows.b, held.b);
      }
    }
  }

  // Plain reasons for two tensors to be far apart that a reader would not guess from the distance.
  std::string peculiarity(const CommonRows& rows, const StagePair& pair) const {
    if (rows.a.values.size() != rows.b.values.size() || !pair.source.empty()) return {};
    for (const bool a_read : {true, false}) {
      const RowSet& read = a_read ? rows.a : rows.b;
      const RowSet& right = a_read ? rows.b : rows.a;
      if (const std::string words = misread_words(read.values, right.values); !words.empty())
        return fmt::format("{}'s numbers are {}", a_read ? "A" : "B", words);
    }
    double dot = 0;
    double norm = 0;
    for (std::size_t i = 0; i < rows.a.values.size(); ++i) {
      const double x = rows.a.values[i];
      const double y = rows.b.values[i];
      if (!std::isfinite(x) || !std::isfinite(y) || y <= -1e30) continue;
      dot += x * y;
      norm += y * y;
    }
    if (norm <= 0) return {};
    const double factor = dot / norm;
    double rest = 0;
    for (std::size_t i = 0; i < rows.a.values.size(); ++i) {
      const double x = rows.a.values[i];
      const double y = rows.b.values[i];
      if (!std::isfinite(x) || !std::isfinite(y) || y <= -1e30) continue;
      rest += (x - factor * y) * (x - factor * y);
    }
    const double after = std::sqrt(rest / norm);
    if (after <= noise_.unit() * 40 && std::abs(factor - 1) > 10 * after)
      return fmt::format("A is B times {:.6g}", factor);
    return {};
  }

  const Trace& a_;
  const Trace& b_;
  TraceSide left_;
  TraceSide right_;
  NoiseModel noise_;
  Pairing pairing_;
  Comparison result_;
  std::set<std::int64_t> flipped_;
  int tied_layer_ = -1;  // the first in which near ties fall differently
  double left_out_ = 0;  // relative L2 with the positions left out, at most, so far
  std::map<int, int> detail_;  // of each layer, how many stages are compared
  int depth_ = 0;              // layers by the configurations, 0 where neither says
  int layer_ = -1;             // up to which stages have been judged
  bool ended_ = false;         // the final norm or logits have been
  bool faulty_ = false;        // a stage has failed
};

}  // namespace

Result<Comparison> compare_stages(const Trace& a, const Trace& b, const std::set<std::int64_t>& left_out) {
  return Comparer(a, b, left_out).run();
}

}  // namespace plumb
