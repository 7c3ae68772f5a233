// Planting causes in our own executor and diagnosing the run: what the slow test samples and diagnose_matrix_tool runs whole.
#pragma once
#include <map>
#include <numeric>
#include <random>

#include "engine/sampler.h"
#include "golden.h"
#include "parity/captured_views.h"
#include "parity/explain.h"
#include "parity/search.h"

namespace plumb::mutations {

// What our executor's fp32 and hf-bf16 are.
inline const Arithmetic kFloat32{SuspectType::kFloat32, Precision::kFp64, {Precision::kFp32}};
inline const Arithmetic kBfloat16{SuspectType::kBfloat16, Precision::kFp64, {Precision::kHfBf16}};

// How much the suspect captured.
enum class Captures { kAll, kBlocks, kLogits, kLogprobs };

inline std::string to_string(Captures captures) {
  constexpr const char* kNames[] = {"all stages", "block outputs", "logits", "tokens and logprobs"};
  return kNames[static_cast<std::size_t>(captures)];
}

// A prefill and two decode steps of fixed ids.
class Ids final : public Captured {
 public:
  explicit Ids(std::vector<std::int32_t> ids, std::int64_t decoded = 2) : ids_(std::move(ids)) {
    const auto prefill = static_cast<std::int64_t>(ids_.size()) - decoded;
    steps_.push_back({0, prefill});
    for (std::int64_t i = 0; i < decoded; ++i)
      steps_.push_back({prefill + i, 1});
  }
  const std::vector<TraceStep>& steps() const override { return steps_; }
  const std::vector<std::int32_t>& all() const { return ids_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override {
    const auto first = ids_.begin() + steps_[step].first;
    return {first, first + steps_[step].count};
  }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override {
    return nullptr;
  }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<TraceStep> steps_;
};

// What our executor computed under a patch, held in memory as a trace would hold it.
class Recorded final : public Captured {
 public:
  Recorded(const Ids& ids, Captures captures) : ids_(ids), captures_(captures) {}
  const std::vector<TraceStep>& steps() const override { return ids_.steps(); }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override { return ids_.fed_ids(step); }
  std::shared_ptr<const CapturedValue> value(std::size_t step,
                                             std::string_view stage) const override {
    const auto found = values_.find({step, std::string(stage)});
    return found == values_.end() ? nullptr : found->second;
  }

  // False when the network yields a logit that is not finite.
  bool run(const BoundGraph& network, const Patch& patch, Precision precision, ThreadPool& pool) {
    Recompute all(network, ids_, Numerics(precision), pool, patch);
    for (std::size_t step = 0; step < steps().size(); ++step) {
      const Tensor& logits = all.computed(step, network.graph.logits);
      if (!std::all_of(logits.data.begin(), logits.data.end(),
                       [](double value) { return std::isfinite(value); }))
        return false;
      for (int i = 2; i < static_cast<int>(network.graph.stages.size()); ++i) {
        const Stage& stage = network.graph.stages[static_cast<std::size_t>(i)];
        for (int o = 0; o < static_cast<int>(stage.outputs.size()); ++o) {
          const std::string& name = stage.outputs[static_cast<std::size_t>(o)].name;
          if (wants(stage, name)) keep(step, name, all.computed(step, {i, o}));
        }
      }
      if (captures_ == Captures::kLogprobs) keep_logprobs(step, logits);
    }
    return true;
  }

 private:
  bool wants(const Stage& stage, const std::string& name) const {
    const std::string role = name_in_layer(name, stage.layer);
    switch (captures_) {
      case Captures::kAll:
        return true;
      case Captures::kBlocks:
        return name == "logits" || name == "embed" || role == "residual" || role == "streams";
      case Captures::kLogits:
        return name == "logits";
      case Captures::kLogprobs:
        return false;
    }
    return false;
  }

  void keep(std::size_t step, const std::string& name, const Tensor& value) {
    values_[{step, name}] = std::make_shared<CapturedValue>(CapturedValue{value, DType::kF32});
  }

  void keep_logprobs(std::size_t step, const Tensor& logits) {
    constexpr std::int64_t kTop = 20;
    Tensor ids({logits.tokens(), kTop});
    Tensor values({logits.tokens(), kTop});
    for (std::int64_t t = 0; t < logits.tokens(); ++t) {
      const auto all = log_softmax(logits.row(t));
      std::vector<std::size_t> order(all.size());
      for (std::size_t i = 0; i < order.size(); ++i)
        order[i] = i;
      std::partial_sort(order.begin(), order.begin() + kTop, order.end(),
                        [&](std::size_t a, std::size_t b) { return all[a] > all[b]; });
      for (std::size_t i = 0; i < kTop; ++i) {
        ids.row(t)[i] = static_cast<double>(order[i]);
        values.row(t)[i] = static_cast<float>(all[order[i]]);
      }
    }
    keep(step, "logprobs.ids", ids);
    keep(step, "logprobs", values);
  }

  const Ids& ids_;
  Captures captures_;
  std::map<std::pair<std::size_t, std::string>, std::shared_ptr<const CapturedValue>> values_;
};

inline Ids prompt_of(const std::string& checkpoint) {
  auto ids = golden::Golden(checkpoint).ids("long");
  ids.resize(34);
  return Ids(std::move(ids));
}

// A hypothesis with the value that is planted, on all stages of one role, or on all that it concerns.
struct Plant {
  Hypothesis hypothesis;
  double value;
  std::vector<int> stages;
  std::string role;

  std::string text() const {
    return "row " + hypothesis.row + " (" + hypothesis.field + " " +
           (hypothesis.range ? std::to_string(value) : plumb::to_string(hypothesis.found)) +
           ") in " + role;
  }
};

// One plant for each hypothesis about the first stage of each role.
inline std::vector<Plant> plants(const Model& model) {
  std::vector<Plant> list;
  std::set<std::string> roles;
  std::set<std::string> everywhere;
  const auto& stages = model.network.graph.stages;
  std::vector<int> all(stages.size());
  std::iota(all.begin(), all.end(), 0);
  for (int i = 2; i < static_cast<int>(stages.size()); ++i) {
    const Stage& stage = stages[static_cast<std::size_t>(i)];
    if (!roles.insert(role_of(stage)).second) continue;
    std::vector<int> same;
    for (int j = i; j < static_cast<int>(stages.size()); ++j) {
      const Stage& other = stages[static_cast<std::size_t>(j)];
      if (role_of(other) == role_of(stage) && other.operation.index() == stage.operation.index())
        same.push_back(j);
    }
    for (const Hypothesis& hypothesis : hypotheses_about(model.network, *model.config, i)) {
      if (hypothesis.everywhere && !everywhere.insert(hypothesis.field).second) continue;
      const std::vector<int>& where = hypothesis.everywhere ? all : same;
      if (!hypothesis.range) {
        list.push_back({hypothesis, 0, where, role_of(stage)});
        continue;
      }
      for (const double snap : hypothesis.range->snaps) {
        if (snap < hypothesis.range->low || snap > hypothesis.range->high ||
            plumb::to_string(FieldValue(snap)) == plumb::to_string(hypothesis.expected))
          continue;
        list.push_back({hypothesis, snap, where, role_of(stage)});
        break;
      }
    }
  }
  return list;
}

inline bool apply(const BoundGraph& network, const Plant& plant, Patch& patch) {
  return plumb::apply(network, plant.hypothesis, plant.stages, plant.value, patch);
}

struct Verdict {
  std::vector<bool> named;
  std::vector<bool> at_stage;
  std::vector<std::string> rows;  // of all findings; empty: unexplained
  std::string findings;

  bool all_named() const {
    return std::all_of(named.begin(), named.end(), [](bool b) { return b; });
  }
  bool all_at_stage() const {
    return std::all_of(at_stage.begin(), at_stage.end(), [](bool b) { return b; });
  }
};

inline std::string text_of(const Explanation& explanation) {
  std::string text;
  for (const Finding& finding : explanation.findings)
    text += " [" + finding.row + " " + finding.field + " " + plumb::to_string(finding.found) +
            " at " + finding.stage + "]";
  return text;
}

// Whether each planted cause is among the findings, and at a stage of its own.
inline Verdict judge(const Model& model, const Recorded& recorded,
                     const std::vector<const Plant*>& planted, ThreadPool& pool) {
  Verdict verdict;
  Checker checker(model.network, recorded, kFloat32, pool);
  const auto checks = checker.run();
  const Explanation explanation = explain(checker, *model.config, checks);
  for (const Plant* plant : planted) {
    Patch patch;
    apply(model.network, *plant, patch);
    const std::set<int> touched = touched_stages(model.network, patch);
    bool named = false;
    bool at_stage = false;
    for (const Finding& finding : explanation.findings) {
      const bool row = finding.row == plant->hypothesis.row ||
                       std::find(finding.also.begin(), finding.also.end(), plant->hypothesis.row) !=
                           finding.also.end();
      named = named || row;
      for (const Check& check : checks) {
        if (check.stage == finding.stage && row && check.fails) {
          at_stage = at_stage || std::any_of(touched.begin(), touched.end(), [&](int s) {
                       return std::binary_search(check.span.begin(), check.span.end(), s);
                     });
        }
      }
    }
    verdict.named.push_back(named);
    verdict.at_stage.push_back(at_stage);
  }
  for (const Finding& finding : explanation.findings)
    verdict.rows.push_back(finding.row);
  verdict.findings = text_of(explanation);
  return verdict;
}

// Planted runs in a random order that the seed fixes: each of causes that show in what is captured, each by itself.
class Source {
 public:
  // All must outlive it.
  Source(const Model& model, const Ids& ids, Captures captures, unsigned seed)
      : model_(model), ids_(ids), captures_(captures), list_(plants(model)) {
    // std::shuffle's order differs between libraries.
    std::mt19937 random(seed);
    for (std::size_t i = list_.size(); i > 1; --i)
      std::swap(list_[i - 1], list_[random() % i]);
  }

  // The next `count` causes together; empty when there are no more. recorded() is then their run.
  std::vector<const Plant*> next(std::size_t count, ThreadPool& pool) {
    while (next_ < list_.size()) {
      std::vector<const Plant*> group;
      while (group.size() < count && next_ < list_.size()) {
        const Plant& plant = list_[next_++];
        const bool same = std::any_of(group.begin(), group.end(), [&](const Plant* other) {
          return (other->hypothesis.field == plant.hypothesis.field && other->role == plant.role) ||
                 replace_a_common_weight(*other, plant);
        });
        if (!same && run({&plant}, pool) && shows(pool)) group.push_back(&plant);
      }
      if (group.size() == count && run(group, pool) && shows(pool) && all_matter(group, pool))
        return group;
    }
    return {};
  }

  const std::unique_ptr<Recorded>& recorded() const { return recorded_; }

 private:
  // The later of two patches of one weight would undo the earlier there.
  bool replace_a_common_weight(const Plant& a, const Plant& b) const {
    Patch of_a;
    Patch of_b;
    if (!apply(model_.network, a, of_a) || !apply(model_.network, b, of_b)) return false;
    return std::any_of(of_a.weights.begin(), of_a.weights.end(),
                       [&](const auto& entry) { return of_b.weights.contains(entry.first); });
  }

  // Whether each of a group shows beside the others: a small fault behind a great one may be less than what a right engine under the great
  // one may be off by.
  bool all_matter(const std::vector<const Plant*>& group, ThreadPool& pool) const {
    Checker checker(model_.network, *recorded_, kFloat32, pool);
    const auto checks = checker.run();
    return group.size() < 2 || std::ranges::all_of(group, [&](const Plant* plant) {
      Patch others;
      for (const Plant* other : group) {
        if (other != plant) apply(model_.network, *other, others);
      }
      return std::ranges::any_of(checks, [&](const Check& check) {
        const Residual r = checker.under(check, others);
        return r.relative_l2 > check.budget || r.worst_row > 6 * check.budget;
      });
    });
  }

  bool run(const std::vector<const Plant*>& group, ThreadPool& pool) {
    Patch patch;
    for (const Plant* plant : group) {
      if (!apply(model_.network, *plant, patch)) return false;
    }
    recorded_ = std::make_unique<Recorded>(ids_, captures_);
    return recorded_->run(model_.network, patch, Precision::kFp32, pool);
  }

  bool shows(ThreadPool& pool) const {
    Checker checker(model_.network, *recorded_, kFloat32, pool);
    const auto checks = checker.run();
    return std::any_of(checks.begin(), checks.end(),
                       [](const Check& check) { return check.fails; });
  }

  const Model& model_;
  const Ids& ids_;
  Captures captures_;
  std::vector<Plant> list_;
  std::size_t next_ = 0;
  std::unique_ptr<Recorded> recorded_;
};

}  // namespace plumb::mutations
