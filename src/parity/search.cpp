// Candidates, their best values, and pairs of them.
#include "parity/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "parity/number_search.h"

namespace plumb {
namespace {

constexpr std::size_t kSmallNetwork = 260;  // stages; beyond, single stages of a role are not tried
constexpr double kNoEffect = 1e-9;          // of the residual: the hypothesis changes nothing here
constexpr double kNotPaired = 3;            // rarity: of many values each, none of which is likelier beside another cause
constexpr double kMostProducts = 1e12;      // multiplications of one search: tens of seconds

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
  Patch all = patch;
  for (const int index : scope) {
    Patch attempt = all;
    if (!hypothesis.apply(network, index, value, attempt)) continue;
    all = std::move(attempt);
    any = true;
  }
  if (!any || reads_in_a_circle(network, all)) return false;
  patch = std::move(all);
  return true;
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

namespace {

// One candidate while it is measured.
struct Measuring {
  Attempt* candidate;
  std::set<int> touched;
  std::optional<NumberSearch> number;  // nothing: it has none, or it was asked already
  std::vector<double> wanted;
  std::vector<Residual> found;  // of wanted
  std::vector<std::vector<float>> samples;  // of wanted, which several threads ask
};

Residual unusable() {
  return Attempt{}.residual;
}

std::optional<Measuring> begin(const BoundGraph& network, const Trial& trial, double good_enough, Search::Effort effort,
                               Attempt& candidate) {
  const auto& range = candidate.hypothesis.range;
  const double sample = !range ? 0 : range->snaps.empty() ? range->low : range->snaps.front();
  Patch alone;
  if (!apply(network, candidate.hypothesis, candidate.scope, sample, alone) && !range) return std::nullopt;
  Measuring measuring{.candidate = &candidate, .touched = touched_stages(network, alone), .number = {}, .wanted = {}, .found = {}, .samples = {}};
  if (!range) {
    measuring.wanted = {candidate.value};
    return measuring;
  }
  // Which stages a number touches does not depend on the number, but whether it may be applied does.
  measuring.touched.insert(candidate.scope.begin(), candidate.scope.end());
  measuring.number.emplace(NumberQuestion{.range = &*range,
                                          .right = &candidate.hypothesis.expected,
                                          .before = trial.before().relative_l2,
                                          .good_enough = good_enough,
                                          .known_tokens = trial.known_tokens(),
                                          .solve = effort == Search::Effort::kSolve});
  measuring.wanted = measuring.number->wanted();
  return measuring;
}

// Takes what was found, and asks for more.
void go_on(Measuring& m, double good_enough) {
  Attempt& candidate = *m.candidate;
  const bool snapping = !m.number || m.number->snapping();
  std::vector<double> residuals;
  for (std::size_t i = 0; i < m.wanted.size(); ++i) {
    const Residual& r = m.found[i];
    residuals.push_back(r.relative_l2);
    if (!(r.relative_l2 < candidate.residual.relative_l2)) continue;
    candidate.residual = r;
    candidate.value = m.wanted[i];
    if (!snapping) candidate.snapped = false;
    if (snapping && m.number && r.relative_l2 <= good_enough) break;
  }
  m.wanted.clear();
  if (!m.number) return;
  if (residuals.size() < m.found.size()) residuals.resize(m.found.size(), std::numeric_limits<double>::infinity());
  m.number->tell(residuals, candidate.residual.relative_l2);
  m.wanted = m.number->wanted();
}

}  // namespace

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

double probe_of(const Hypothesis& hypothesis) {
  const Range& range = *hypothesis.range;
  const double expected = number_of(hypothesis.expected);
  for (const double snap : range.snaps) {
    if (snap >= range.low && snap <= range.high && snap != expected) return snap;
  }
  return range.low != expected ? range.low : range.high;
}

double along(std::span<const float> y, std::span<const float> f, std::span<const float> e, std::span<const float> base) {
  double dot = 0;
  double left = 0;
  double effect = 0;
  for (std::size_t i = 0; i < std::min({y.size(), f.size(), e.size(), base.size()}); ++i) {
    const double a = static_cast<double>(y[i]) - f[i];
    const double b = static_cast<double>(e[i]) - base[i];
    dot += a * b;
    left += a * a;
    effect += b * b;
  }
  return left > 0 && effect > 0 ? dot / std::sqrt(left * effect) : 0;
}

// A number changes what is computed along nearly one line: where its effect at one value is not along what is to be explained, other values
// will not be.
std::vector<Attempt*> Search::likely(const Trial& trial, std::vector<Attempt>& list) const {
  constexpr double kValues = 30;  // that are tried of one number
  constexpr std::size_t kLeast = 12;
  std::vector<Attempt*> kept;
  std::vector<Attempt*> numbers;
  for (Attempt& candidate : list)
    (candidate.hypothesis.range ? numbers : kept).push_back(&candidate);
  const auto most = std::max(kLeast, static_cast<std::size_t>(kMostProducts / (kValues * std::max(trial.products(), 1.0))));
  if (numbers.size() <= most) {
    kept.insert(kept.end(), numbers.begin(), numbers.end());
    return kept;
  }
  std::vector<Attempt> probes;
  for (const Attempt* candidate : numbers)
    probes.push_back(fixed(*candidate, probe_of(candidate->hypothesis)));
  std::vector<std::vector<float>> samples;
  measure_all(trial, 0, probes, Effort::kSnaps, ", one number of each", &samples);
  const auto suspect = trial.sample_of_suspect();
  const auto base = trial.sample_of_base();
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    order.emplace_back(-std::abs(along(suspect, base, samples[i], base)), i);
    numbers[i]->residual = probes[i].residual;  // of what is not tried further
    numbers[i]->value = probes[i].value;
  }
  std::stable_sort(order.begin(), order.end());
  for (std::size_t i = 0; i < most; ++i) {
    Attempt* candidate = numbers[order[i].second];
    candidate->residual = unusable();
    kept.push_back(candidate);
  }
  return kept;
}

// All that is wanted of all candidates is evaluated together, a few at a time, until nothing is wanted.
void Search::measure_all(const Trial& trial, double good_enough, std::vector<Attempt>& list,
                         Effort effort, std::string_view beside, std::vector<std::vector<float>>* samples) const {
  if (samples != nullptr) samples->assign(list.size(), {});
  std::vector<Measuring> all;
  for (Attempt* candidate : likely(trial, list)) {
    if (auto measuring = begin(network_, trial, good_enough, effort, *candidate)) all.push_back(std::move(*measuring));
  }
  const std::size_t total = all.size();
  const TimeLeft time;
  for (int round = 0; !all.empty(); ++round) {
    std::vector<std::pair<Measuring*, std::size_t>> wanted;
    for (Measuring& m : all) {
      m.found.assign(m.wanted.size(), unusable());
      m.samples.assign(m.wanted.size(), {});
      for (std::size_t i = 0; i < m.wanted.size(); ++i)
        wanted.emplace_back(&m, i);
    }
    const std::size_t share = wanted.size() / static_cast<std::size_t>(pool_.threads()) + 1;
    const std::size_t lanes = std::min(trial.lanes(), share);
    std::atomic<std::size_t> done = 0;
    pool_.for_rows(static_cast<std::int64_t>((wanted.size() + lanes - 1) / lanes), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t group = first; group < last; ++group) {
        const std::size_t from = static_cast<std::size_t>(group) * lanes;
        const std::size_t to = std::min(from + lanes, wanted.size());
        std::vector<Trial::Question> questions;
        std::vector<std::pair<Measuring*, std::size_t>> asked;
        for (std::size_t i = from; i < to; ++i) {
          auto& [m, which] = wanted[i];
          Patch patch = trial.base();
          if (!apply(network_, m->candidate->hypothesis, m->candidate->scope, m->wanted[which], patch)) continue;
          questions.push_back({.patch = std::move(patch), .touched = &m->touched});
          asked.emplace_back(m, which);
        }
        auto answers = trial.under(questions, samples != nullptr);
        for (std::size_t i = 0; i < answers.size(); ++i) {
          const auto& [m, which] = asked[i];
          m->found[which] = answers[i].residual;
          m->samples[which] = std::move(answers[i].sample);
        }
        done += to - from;
        progress_.tell([&] {
          const double part = static_cast<double>(done.load()) / static_cast<double>(wanted.size());
          const std::string what = round == 0 ? fmt::format("{} causes", total) : fmt::format("numbers of {} causes, round {}", all.size(), round);
          return fmt::format("{}: {}{}{}", trial.check().stage, what, beside, time.left(round == 0 ? part : 0));
        });
      }
    });
    for (Measuring& m : all) {
      for (std::vector<float>& sample : m.samples) {
        if (samples != nullptr && !sample.empty()) (*samples)[static_cast<std::size_t>(m.candidate - list.data())] = std::move(sample);
      }
    }
    for (Measuring& m : all)
      go_on(m, good_enough);
    std::erase_if(all, [](const Measuring& m) { return m.wanted.empty(); });
  }
}

void Search::measure(const Trial& trial, double good_enough, Attempt& candidate, Effort effort) const {
  std::vector<Attempt> one{candidate};
  measure_all(trial, good_enough, one, effort);
  candidate = one[0];
}

namespace {

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
  constexpr std::size_t kShortSpan = 3;
  constexpr std::size_t kPartners = 32;  // of each lead
  constexpr std::size_t kLongSpan = 30;  // stages; beyond, single stages of a role are not paired
  struct Variant {
    Attempt candidate;
    std::size_t of;  // of `measured`
    std::vector<float> sample;
  };
  std::vector<Variant> variants;
  const Trial alone(checker, check, base);
  const bool large = alone.products() * static_cast<double>(measured.size()) > kMostProducts / 100;
  const std::size_t most_snaps = large ? 1 : 5;
  const std::size_t most_leads = large ? 6 : variants.max_size();
  for (std::size_t i = 0; i < measured.size(); ++i) {
    const Attempt& candidate = measured[i];
    if (!std::isfinite(candidate.residual.relative_l2)) continue;
    if ((candidate.narrow && check.span.size() > kLongSpan) || candidate.hypothesis.rarity >= kNotPaired) continue;
    const auto& range = candidate.hypothesis.range;
    if (!range) {
      // What changes nothing alone may do so with another (weights that sum to 1 need no division by their sum); over many stages
      // that is left to longer prompts.
      const double change = candidate.residual.relative_l2 - alone.before().relative_l2;
      const bool idle = std::abs(change) <= kNoEffect * alone.before().relative_l2;
      if (idle && check.span.size() > kShortSpan) continue;
      variants.push_back({candidate, i, {}});
      continue;
    }
    std::set<double> values{candidate.value};
    for (const double snap : range->snaps) {
      if (snap >= range->low && snap <= range->high && values.size() < most_snaps)
        values.insert(snap);
    }
    for (const double value : values) {
      Attempt one = fixed(candidate, value);
      one.residual.relative_l2 = std::numeric_limits<double>::infinity();
      one.snapped = value != candidate.value || candidate.snapped;
      variants.push_back({std::move(one), i, {}});
    }
  }
  std::vector<Attempt> each;
  for (const Variant& variant : variants) {
    each.push_back(variant.candidate);
    each.back().residual = unusable();
  }
  std::vector<std::vector<float>> samples;
  measure_all(alone, 0, each, Effort::kSnaps, ", for pairs", &samples);
  for (std::size_t i = 0; i < variants.size(); ++i) {
    variants[i].candidate = each[i];
    variants[i].sample = std::move(samples[i]);
  }
  std::erase_if(variants, [&](const Variant& v) {
    const double change = v.candidate.residual.relative_l2 - alone.before().relative_l2;
    const bool idle = std::abs(change) <= kNoEffect * alone.before().relative_l2;
    return !std::isfinite(v.candidate.residual.relative_l2) ||
           (idle && (measured[v.of].hypothesis.range || check.span.size() > kShortSpan));
  });
  std::stable_sort(variants.begin(), variants.end(), [](const Variant& a, const Variant& b) {
    return a.candidate.residual.relative_l2 < b.candidate.residual.relative_l2;
  });
  // What the one leaves unexplained, against what the other does by itself: small effects add up, and great ones nearly.
  const auto suspect = alone.sample_of_suspect();
  const auto none = alone.sample_of_base();
  const auto together = [&](const Variant& a, const Variant& b) {
    return std::max(along(suspect, a.sample, b.sample, none), along(suspect, b.sample, a.sample, none));
  };
  // The likeliest of scored candidates; where one evaluation settles each and is cheap, all.
  const auto best_of = [&](std::vector<std::pair<double, std::size_t>> scored, bool solving) {
    const bool few = check.span.size() <= kShortSpan || !solving;
    const std::size_t partners = large ? kPartners / 2 : few ? scored.size() : kPartners;
    std::stable_sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    if (scored.size() > partners) scored.resize(partners);
    return scored;
  };
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
    std::size_t last = std::min(leads, most_leads);  // of what fits as well, the best is near the first
    for (std::size_t i = 0; i < std::min(last, leads) && found.size() < kEnough; ++i) {
      Patch with = base;
      if (!apply(network_, variants[i].candidate, with)) continue;
      const Trial trial(checker, check, std::move(with));
      std::vector<Attempt> second;
      std::vector<std::size_t> of;
      std::vector<std::pair<double, std::size_t>> scored;
      if (solving) {
        std::map<std::size_t, double> scores;
        for (const Variant& variant : variants) {
          double& score = scores[variant.of];
          score = std::max(score, std::abs(together(variants[i], variant)));
        }
        for (const auto& [j, score] : scores) {
          if (measured[j].hypothesis.range && differ(measured[j], variants[i].candidate)) scored.emplace_back(score, j);
        }
        for (const auto& [score, j] : best_of(std::move(scored), solving)) {
          second.push_back({.hypothesis = measured[j].hypothesis, .scope = measured[j].scope});
          second.back().narrow = measured[j].narrow;
          of.push_back(j);
        }
      } else {
        for (std::size_t j = i + 1; j < variants.size(); ++j) {
          if (differ(variants[j].candidate, variants[i].candidate)) scored.emplace_back(together(variants[i], variants[j]), j);
        }
        for (const auto& [score, j] : best_of(std::move(scored), solving)) {
          second.push_back(variants[j].candidate);
          second.back().residual = unusable();
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
