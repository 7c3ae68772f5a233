// One check under many patches at once: each has values of its own only where it differs from the base, and the products that they
// share are computed together, stage by stage.
#include <algorithm>
#include <cmath>
#include <memory>

#include "parity/checks.h"

namespace plumb {
namespace {

// Elements from all over.
std::vector<float> sample_of(const Tensor& values) {
  constexpr std::size_t kMost = 1024;
  const std::size_t stride = values.data.size() / kMost + 1;
  std::vector<float> sample;
  for (std::size_t i = 0; i < values.data.size(); i += stride)
    sample.push_back(std::isfinite(values.data[i]) ? static_cast<float>(values.data[i]) : 0);
  return sample;
}

}  // namespace

Trial::Trial(Checker& checker, const Check& check, Patch base)
    : checker_(checker),
      check_(check),
      base_(std::move(base)),
      serial_(1),
      recompute_(checker.exact_, checker.pool_, base_, touched_stages(checker.network_, base_)) {
  const Value logits = checker_.network_.graph.logits;
  if (check_.value.stage == logits.stage && check_.value.output == logits.output) {
    recompute_.keep_last_logits(check_.step, checker_.suspect(check_).tokens());
  }
  before_ = checker_.compared(check_, recompute_);
  base_sample_ = sample_of(checker_.reported(check_, recompute_.computed(check_.step, check_.value)));
  plan();
}

void Trial::plan() {
  const auto& stages = checker_.network_.graph.stages;
  stages_.resize(check_.step + 1);
  stages_[check_.step] = recompute_.span_of(check_.step, check_.value);
  for (std::size_t step = check_.step; step > 0; --step) {
    std::set<int> before;
    for (const int index : stages_[step]) {
      if (stages[static_cast<std::size_t>(index)].states.empty()) continue;
      const auto span = recompute_.span_of(step - 1, {index, 0});
      before.insert(span.begin(), span.end());
    }
    stages_[step - 1].assign(before.begin(), before.end());
  }
  // Hypotheses join stages of a layer, and of the one before, in other ways than the graph.
  constexpr int kLayers = 2;
  const auto& last = stages_[check_.step];
  std::map<int, int> used_by;
  for (const int index : last) {
    for (const Value input : stages[static_cast<std::size_t>(index)].inputs)
      used_by[input.stage] = std::max(used_by[input.stage], index);
  }
  finished_.resize(last.size());
  std::set<int> held;
  for (std::size_t at = 0; at < last.size(); ++at) {
    const int layer = stages[static_cast<std::size_t>(last[at])].layer;
    for (auto each = held.begin(); each != held.end();) {
      const int own = stages[static_cast<std::size_t>(*each)].layer;
      const bool over = own >= 0 && layer >= own + kLayers && used_by[*each] < last[at];
      if (over) finished_[at].push_back(*each);
      each = over ? held.erase(each) : std::next(each);
    }
    if (last[at] != check_.value.stage) held.insert(last[at]);
  }
}

std::int64_t Trial::known_tokens() const {
  const TraceStep& pass = checker_.captured().steps()[check_.step];
  return pass.first + pass.count;
}

std::size_t Trial::lanes() const {
  constexpr std::int64_t kTokens = 64;
  constexpr std::int64_t kMost = 24;
  std::int64_t tokens = 0;
  for (std::size_t step = 0; step < stages_.size(); ++step)
    tokens += stages_[step].empty() ? 0 : checker_.captured().steps()[step].count;
  return static_cast<std::size_t>(std::clamp<std::int64_t>(kTokens / std::max<std::int64_t>(tokens, 1), 1, kMost));
}

double Trial::products() const {
  const auto& graph = checker_.network_.graph;
  double sum = 0;
  for (std::size_t step = 0; step < stages_.size(); ++step) {
    const auto tokens = static_cast<double>(checker_.captured().steps()[step].count);
    for (const int index : stages_[step]) {
      for (const int param : graph.stages[static_cast<std::size_t>(index)].params) {
        const Shape& shape = graph.params[static_cast<std::size_t>(param)].shape;
        if (shape.size() > 1) sum += tokens * static_cast<double>(element_count(shape).value_or(0));
      }
    }
  }
  return sum;
}

std::vector<float> Trial::sample_of_suspect() const {
  return sample_of(checker_.suspect(check_));
}

std::vector<Trial::Answer> Trial::under(std::span<const Question> questions, bool samples) const {
  constexpr double kFar = 10;  // budgets: as much as what a cause does to the roundings
  std::vector<Answer> answers(questions.size());
  std::vector<std::size_t> places;
  std::vector<const Question*> left;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    places.push_back(i);
    left.push_back(&questions[i]);
  }
  for (const auto& screen : screens_) {
    const auto fewer = screen->unscreened(left, false);
    std::vector<std::size_t> still;
    std::vector<const Question*> right;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const double off = fewer[i].residual.relative_l2;
      if (off <= kFar * screen->check().budget) {
        still.push_back(places[i]);
        right.push_back(left[i]);
        continue;
      }
      answers[places[i]].residual = fewer[i].residual;
      answers[places[i]].residual.relative_l2 = before_.relative_l2 + off;
      if (samples) answers[places[i]].sample = base_sample_;
    }
    places = std::move(still);
    left = std::move(right);
  }
  auto rest = unscreened(left, samples);
  for (std::size_t i = 0; i < places.size(); ++i)
    answers[places[i]] = std::move(rest[i]);
  return answers;
}

std::vector<Trial::Answer> Trial::unscreened(std::span<const Question* const> questions, bool samples) const {
  std::vector<std::unique_ptr<Recompute>> own;
  std::vector<Recompute*> lanes;
  for (const Question* question : questions) {
    own.push_back(std::make_unique<Recompute>(recompute_, serial_, question->patch, *question->touched));
    own.back()->end_with(check_.step);
    lanes.push_back(own.back().get());
  }
  for (std::size_t step = 0; step < stages_.size() && !lanes.empty(); ++step) {
    for (std::size_t at = 0; at < stages_[step].size(); ++at) {
      Recompute::run_together(lanes, step, stages_[step][at]);
      if (step != check_.step) continue;
      for (const int finished : finished_[at]) {
        for (Recompute* lane : lanes)
          lane->forget(step, finished);
      }
    }
  }
  std::vector<Answer> answers;
  for (Recompute* lane : lanes) {
    answers.push_back({.residual = checker_.compared(check_, *lane), .sample = {}});
    if (samples) answers.back().sample = sample_of(checker_.reported(check_, lane->computed(check_.step, check_.value)));
  }
  return answers;
}

}  // namespace plumb
