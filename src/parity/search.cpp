// Candidates, their best values, and pairs of them.
#include "parity/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <set>

namespace plumb {
namespace {

constexpr int kGridPoints = 25;
constexpr int kRefinements = 40;
constexpr int kPatience = 10;               // refinements
constexpr double kMostIntegers = 128;       // values of a whole number that are all tried
constexpr std::size_t kSmallNetwork = 260;  // stages; beyond, single stages of a role are not tried
constexpr double kNoEffect = 1e-9;          // of the residual: the hypothesis changes nothing here

// 0 where it is no number.
double number_of(const FieldValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  const auto* whole = std::get_if<std::int64_t>(&value);
  return whole != nullptr ? static_cast<double>(*whole) : 0;
}

std::string conventions_of(const Stage& stage) {
  std::string text;
  for (const Field& field : fields(stage.operation)) {
    if (field.name != "out") text += std::string(field.name) + "=" + to_string(field.value) + ";";
  }
  return text;
}

}  // namespace

std::string role_of(const Stage& stage) {
  return name_in_layer(stage.name, stage.layer);
}

std::string family_of(const Stage& stage) {
  const std::string role = role_of(stage);
  for (const std::string_view end : {"_norm", "_rope"}) {
    if (role.ends_with("q" + std::string(end)) || role.ends_with("k" + std::string(end)))
      return "q and k" + std::string(end);
  }
  if (role == "attn.q" || role == "attn.k" || role == "attn.v") return "projections";
  if (role.ends_with("post_norm")) return "norms after";
  if (role.ends_with("norm")) return "norms";
  return role;
}

double complexity(const Attempt& candidate) {
  const Hypothesis& h = candidate.hypothesis;
  return (h.range && !candidate.snapped ? 2 : 0) + (candidate.narrow ? 1 : 0) +
         (h.field == "linear.weight_scale" || h.field == "linear.shard" ? 2 : 0) + h.rarity;
}

bool apply(const BoundGraph& network, const Hypothesis& hypothesis, const std::vector<int>& scope,
           double value, Patch& patch) {
  bool any = false;
  for (const int index : scope) {
    Patch attempt = patch;
    if (!hypothesis.apply(network, index, value, attempt)) continue;
    patch = std::move(attempt);
    any = true;
  }
  return any;
}

bool apply(const BoundGraph& network, const Attempt& candidate, Patch& patch) {
  return apply(network, candidate.hypothesis, candidate.scope, candidate.value, patch);
}

std::vector<Attempt> Search::candidates(const Check& check) const {
  const std::vector<int>& span = check.span;
  std::vector<Attempt> list;
  std::set<std::string> seen;
  const auto add = [&](const Hypothesis& hypothesis, const std::vector<int>& scope, bool narrow) {
    std::string key =
        hypothesis.field + "=" + to_string(hypothesis.found) + (hypothesis.range ? "?" : "");
    for (const int index : scope)
      key += "," + std::to_string(index);
    if (!seen.insert(key).second) return;
    Attempt candidate{.hypothesis = hypothesis, .scope = scope};
    candidate.narrow = narrow;
    list.push_back(std::move(candidate));
  };
  // Stages of one operation, by what they share.
  std::map<std::pair<std::size_t, std::string>, std::vector<int>> groups;
  const auto keys = [&](int index) {
    const Stage& stage = network_.graph.stages[static_cast<std::size_t>(index)];
    const std::string alike = conventions_of(stage);
    return std::vector<std::string>{"role " + role_of(stage),
                                    "family " + family_of(stage),
                                    "all",
                                    "alike " + alike,
                                    "role " + role_of(stage) + alike,
                                    "family " + family_of(stage) + alike};
  };
  std::map<int, std::vector<std::string>> keys_of;
  for (const int index : span) {
    const auto kind = network_.graph.stages[static_cast<std::size_t>(index)].operation.index();
    keys_of[index] = keys(index);
    for (const std::string& key : keys_of[index])
      groups[{kind, key}].push_back(index);
  }
  for (const int index : span) {
    const auto kind = network_.graph.stages[static_cast<std::size_t>(index)].operation.index();
    auto hypotheses = hypotheses_about(network_, config_, index);
    std::erase_if(hypotheses, [&](const Hypothesis& h) { return h.later && check.step == 0; });
    for (const std::string& key : keys_of[index]) {
      for (const Hypothesis& hypothesis : hypotheses)
        add(hypothesis, hypothesis.everywhere ? span : groups[{kind, key}], false);
    }
    if (groups[{kind, keys_of[index][0]}].size() < 2 || span.size() > kSmallNetwork) continue;
    for (const Hypothesis& hypothesis : hypotheses) {
      if (!hypothesis.everywhere) add(hypothesis, {index}, true);
    }
  }
  return list;
}

struct Search::Probe {
  const Trial& trial;
  double good_enough;
  std::set<int> touched;
};

double Search::at(const Probe& probe, Attempt& candidate, double value) const {
  Patch patch = probe.trial.base();
  if (!apply(network_, candidate.hypothesis, candidate.scope, value, patch))
    return std::numeric_limits<double>::infinity();
  const Residual r = probe.trial.under(patch, probe.touched);
  if (!(r.relative_l2 < candidate.residual.relative_l2)) return r.relative_l2;
  candidate.residual = r;
  candidate.value = value;
  return r.relative_l2;
}

// Golden-section search on [low, high] of `place`'s argument; given up where the residual stays above `hopeless`: towards the
// right value of the right cause it falls as the interval does.
void Search::refine(double low, double high, double hopeless,
                    const std::function<double(double)>& place,
                    const std::function<double(double)>& try_value) const {
  constexpr double kGolden = 0.6180339887498949;
  double a = high - kGolden * (high - low);
  double b = low + kGolden * (high - low);
  double ra = try_value(place(a));
  double rb = try_value(place(b));
  for (int i = 0; i < kRefinements; ++i) {
    if (i == kPatience && std::min(ra, rb) > hopeless) return;
    if (ra < rb) {
      high = b;
      b = a;
      rb = ra;
      a = high - kGolden * (high - low);
      ra = try_value(place(a));
    } else {
      low = a;
      a = b;
      ra = rb;
      b = low + kGolden * (high - low);
      rb = try_value(place(b));
    }
  }
}

// Snaps first, then a grid and a golden-section search around its best point.
void Search::solve(const Probe& probe, Attempt& candidate, Effort effort) const {
  const Range& range = *candidate.hypothesis.range;
  const double before = probe.trial.before().relative_l2;
  bool any = false;  // whether a value has any effect
  bool other = false;  // whether one was tried that is not the right one
  for (const double snap : range.snaps) {
    if (snap < range.low || snap > range.high) continue;
    other = other || to_string(FieldValue(snap)) != to_string(candidate.hypothesis.expected);
    const double r = at(probe, candidate, snap);
    any = any || (std::isfinite(r) && std::abs(r - before) > kNoEffect * before);
    if (candidate.residual.relative_l2 <= probe.good_enough) return;
  }
  if (effort == Effort::kSnaps && !range.snaps.empty()) return;
  if (!any && other) return;
  const auto try_value = [&](double value) {
    const double least = candidate.residual.relative_l2;
    const double r = at(probe, candidate, value);
    if (candidate.residual.relative_l2 < least) candidate.snapped = false;
    return r;
  };
  if (range.integer) {
    // Counts of tokens go as far as there are tokens.
    const double most = std::min(range.high, static_cast<double>(probe.trial.known_tokens()) + 1);
    const double high = range.low >= 1 && range.high > kMostIntegers ? most : range.high;
    if (high - range.low > kMostIntegers) return;
    for (double value = range.low; value <= high; ++value)
      try_value(value);
    return;
  }
  const auto place = [&](double x) {
    return range.logarithmic ? range.low * std::pow(range.high / range.low, x)
                             : range.low + x * (range.high - range.low);
  };
  int best = 0;
  std::vector<double> grid;
  for (int i = 0; i < kGridPoints; ++i) {
    grid.push_back(try_value(place(static_cast<double>(i) / (kGridPoints - 1))));
    if (grid.back() < grid[static_cast<std::size_t>(best)]) best = i;
  }
  const double least = grid[static_cast<std::size_t>(best)];
  const double beside =
      std::max(grid[static_cast<std::size_t>(std::max(best - 1, 0))],
               grid[static_cast<std::size_t>(std::min(best + 1, kGridPoints - 1))]);
  constexpr double kNoMinimum = 0.98;
  if (least <= kNoMinimum * before) {
    refine(static_cast<double>(best - 1) / (kGridPoints - 1),
           static_cast<double>(best + 1) / (kGridPoints - 1), 0.15 * beside, place, try_value);
  }
  // A number that is almost the right one lies between the points of the grid.
  const double expected = number_of(candidate.hypothesis.expected);
  if (candidate.residual.relative_l2 <= probe.good_enough || expected == 0) return;
  constexpr double kNear = 1e-3;
  const auto around = [&](double x) { return expected * std::pow(2, x); };
  if (std::min(try_value(around(kNear)), try_value(around(-kNear))) >= before) return;
  refine(-1, 1, before, around, try_value);
}

void Search::measure(const Trial& trial, double good_enough, Attempt& candidate,
                     Effort effort) const {
  Patch alone;
  const auto& range = candidate.hypothesis.range;
  const double sample = !range ? 0 : range->snaps.empty() ? range->low : range->snaps.front();
  if (!apply(network_, candidate.hypothesis, candidate.scope, sample, alone) && !range) return;
  Probe probe{.trial = trial, .good_enough = good_enough, .touched = {}};
  if (range) {
    // Which stages a number touches does not depend on the number, but whether it may be applied does.
    probe.touched.insert(candidate.scope.begin(), candidate.scope.end());
    probe.touched.merge(touched_stages(network_, alone));
    solve(probe, candidate, effort);
  } else {
    probe.touched = touched_stages(network_, alone);
    at(probe, candidate, candidate.value);
  }
}

void Search::measure_all(const Trial& trial, double good_enough, std::vector<Attempt>& list,
                         Effort effort, std::string_view beside) const {
  std::atomic<std::size_t> done = 0;
  pool_.for_rows(static_cast<std::int64_t>(list.size()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      measure(trial, good_enough, list[static_cast<std::size_t>(i)], effort);
      ++done;
      progress_.tell([&] { return fmt::format("{}: cause {} of {}{}", trial.check().stage, done.load(), list.size(), beside); });
    }
  });
}

namespace {

// A candidate at one value.
Attempt fixed(const Attempt& candidate, double value) {
  Attempt result = candidate;
  result.hypothesis.range.reset();
  result.value = value;
  result.hypothesis.apply = [inner = candidate.hypothesis.apply, value](
                                const BoundGraph& network, int index, double, Patch& patch) {
    return inner(network, index, value, patch);
  };
  return result;
}

// The candidate as found, with its range again: findings tell the number.
Attempt as_range(const Attempt& found, const Attempt& of) {
  Attempt result = of;
  result.value = found.value;
  result.residual = found.residual;
  result.snapped = found.snapped;
  return result;
}

}  // namespace

std::vector<std::vector<Attempt>> Search::pairs(Checker& checker, const Check& check,
                                                const Patch& base, double good_enough,
                                                const std::vector<Attempt>& measured) const {
  constexpr std::size_t kFewVariants = 90;
  constexpr std::size_t kLeads = 16;
  constexpr std::size_t kEnough = 6;
  constexpr std::size_t kMostSnaps = 5;
  constexpr std::size_t kShortSpan = 3;
  constexpr std::size_t kLongSpan = 30;  // stages; beyond, single stages of a role are not paired
  struct Variant {
    Attempt candidate;
    std::size_t of;  // of `measured`
  };
  std::vector<Variant> variants;
  const Trial alone(checker, check, base);
  for (std::size_t i = 0; i < measured.size(); ++i) {
    const Attempt& candidate = measured[i];
    if (!std::isfinite(candidate.residual.relative_l2)) continue;
    if (candidate.narrow && check.span.size() > kLongSpan) continue;
    const auto& range = candidate.hypothesis.range;
    if (!range) {
      // What changes nothing alone may do so with another (weights that sum to 1 need no division by their sum); over many stages
      // that is left to longer prompts.
      const double change = candidate.residual.relative_l2 - alone.before().relative_l2;
      const bool idle = std::abs(change) <= kNoEffect * alone.before().relative_l2;
      if (idle && check.span.size() > kShortSpan) continue;
      variants.push_back({candidate, i});
      continue;
    }
    std::set<double> values{candidate.value};
    for (const double snap : range->snaps) {
      if (snap >= range->low && snap <= range->high && values.size() < kMostSnaps)
        values.insert(snap);
    }
    for (const double value : values) {
      Attempt one = fixed(candidate, value);
      one.residual.relative_l2 = std::numeric_limits<double>::infinity();
      one.snapped = value != candidate.value || candidate.snapped;
      variants.push_back({std::move(one), i});
    }
  }
  pool_.for_rows(static_cast<std::int64_t>(variants.size()),
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t i = begin; i < end; ++i) {
                     Attempt& one = variants[static_cast<std::size_t>(i)].candidate;
                     if (!std::isfinite(one.residual.relative_l2)) measure(alone, 0, one);
                   }
                 });
  std::erase_if(variants, [&](const Variant& v) {
    const double change = v.candidate.residual.relative_l2 - alone.before().relative_l2;
    const bool idle = std::abs(change) <= kNoEffect * alone.before().relative_l2;
    return !std::isfinite(v.candidate.residual.relative_l2) ||
           (idle && (measured[v.of].hypothesis.range || check.span.size() > kShortSpan));
  });
  std::stable_sort(variants.begin(), variants.end(), [](const Variant& a, const Variant& b) {
    return a.candidate.residual.relative_l2 < b.candidate.residual.relative_l2;
  });
  std::vector<std::vector<Attempt>> found;
  const auto differ = [](const Attempt& a, const Attempt& b) {
    return a.hypothesis.field != b.hypothesis.field || a.scope != b.scope;
  };
  // All pairs at the values that configurations hold, then numbers solved for beside each lead.
  for (const bool solving : {false, true}) {
    // The greater of two faults brings the residual down by itself.
    const auto improving = static_cast<std::size_t>(
        std::count_if(variants.begin(), variants.end(), [&](const Variant& v) {
          return v.candidate.residual.relative_l2 < alone.before().relative_l2;
        }));
    const std::size_t leads =
        std::min(variants.size(), variants.size() <= kFewVariants ? variants.size()
                                  : solving                       ? kLeads
                                                                  : std::max(kLeads, improving));
    std::size_t last = leads;  // of what fits as well, the best is near the first
    for (std::size_t i = 0; i < std::min(last, leads) && found.size() < kEnough; ++i) {
      Patch with = base;
      if (!apply(network_, variants[i].candidate, with)) continue;
      const Trial trial(checker, check, std::move(with));
      std::vector<Attempt> second;
      std::vector<std::size_t> of;
      if (solving) {
        for (std::size_t j = 0; j < measured.size(); ++j) {
          if (!measured[j].hypothesis.range || !differ(measured[j], variants[i].candidate))
            continue;
          second.push_back({.hypothesis = measured[j].hypothesis, .scope = measured[j].scope});
          second.back().narrow = measured[j].narrow;
          of.push_back(j);
        }
      } else {
        for (std::size_t j = i + 1; j < variants.size(); ++j) {
          if (!differ(variants[j].candidate, variants[i].candidate)) continue;
          second.push_back(variants[j].candidate);
          second.back().residual.relative_l2 = std::numeric_limits<double>::infinity();
          of.push_back(variants[j].of);
        }
      }
      measure_all(trial, good_enough, second, Effort::kSolve, fmt::format(", beside another, {} of {}", i + 1, leads));
      for (std::size_t j = 0; j < second.size(); ++j) {
        if (second[j].residual.relative_l2 > good_enough) continue;
        Attempt first = as_range(variants[i].candidate, measured[variants[i].of]);
        first.residual = second[j].residual;
        found.push_back({first, as_range(second[j], measured[of[j]])});
        last = std::min(last, i + 3);
      }
    }
    if (!found.empty()) break;
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    const auto score = [](const std::vector<Attempt>& pair) {
      return pair[1].residual.relative_l2 * (1 + 0.4 * (complexity(pair[0]) + complexity(pair[1])));
    };
    return score(a) < score(b);
  });
  return found;
}

}  // namespace plumb
