// Prints how well the diagnosis does: causes planted in our own executor, diagnosed from what was captured.
//   diagnose_matrix_tool CHECKPOINT all|blocks|logits|logprobs singles|pairs|unknown|right MOST SEED
// A JSON line for each run: the rows planted; for each the rows that name it, empty where none does; whether each was found at a
// stage of its own; what came out; the seconds of the diagnosis. tests/python/diagnosis_matrix.py makes a table of them.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "unknown_faults.h"

namespace plumb::mutations {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Bench {
  std::string checkpoint;
  Model model;
  Ids ids;
  Captures captures;
  ThreadPool pool{2};

  void print(json line) const {
    line["checkpoint"] = checkpoint;
    line["captured"] = to_string(captures);
    std::cout << line.dump() << std::endl;
  }
};

void planted(Bench& bench, std::size_t at_once, std::size_t most, unsigned seed) {
  Source source(bench.model, bench.ids, bench.captures, seed);
  for (std::size_t i = 0; i < most; ++i) {
    const auto group = source.next(at_once, bench.pool);
    if (group.empty()) break;
    const auto begin = Clock::now();
    const Verdict verdict = judge(bench.model, *source.recorded(), group, bench.pool);
    json line{{"planted", json::array()},     {"named", verdict.named},
              {"at_stage", verdict.at_stage}, {"rows", verdict.rows},
              {"findings", verdict.findings}, {"seconds", since(begin)}};
    for (const Plant* plant : group)
      line["planted"].push_back({{"row", plant->hypothesis.row}, {"text", plant->text()}});
    bench.print(std::move(line));
  }
}

void unknown(Bench& bench, std::size_t most) {
  for (const UnknownFault& fault : unknown_faults(bench.model.network)) {
    if (most-- == 0) return;
    Recorded recorded(bench.ids, bench.captures);
    if (!recorded.run(bench.model.network, fault.patch, Precision::kFp32, bench.pool)) continue;
    const auto begin = Clock::now();
    Checker checker(bench.model.network, recorded, kFloat32, bench.pool);
    const auto checks = checker.run();
    const auto first = std::ranges::find_if(checks, [](const Check& check) { return check.fails; });
    if (first == checks.end()) continue;  // it shows in nothing
    const Explanation explanation = explain(checker, *bench.model.config, checks);
    json rows = json::array();
    for (const Finding& finding : explanation.findings) {
      if (!finding.row.empty()) rows.push_back(finding.row);
    }
    const bool at_stage = std::ranges::binary_search(first->span, fault.stage);
    bench.print({{"planted", {{{"row", ""}, {"text", fault.text}}}},
                 {"named", {rows.empty() && !explanation.findings.empty()}},
                 {"at_stage", {at_stage && explanation.findings.front().stage == first->stage}},
                 {"rows", std::move(rows)},
                 {"findings", text_of(explanation)},
                 {"seconds", since(begin)}});
  }
}

SuspectType type_of(Precision precision) {
  switch (activation_type(precision)) {
    case ActivationType::kBfloat16:
      return SuspectType::kBfloat16;
    case ActivationType::kFloat16:
      return SuspectType::kFloat16;
    default:
      return SuspectType::kFloat32;
  }
}

void right(Bench& bench) {
  const Ids split(bench.ids.all(), 9);
  for (const Precision precision : kPrecisions) {
    // The cpu executor takes attention from integers beside weights of its eight-bit forms; no checkpoint here has such.
    if (precision == Precision::kCpuInt16) continue;
    const Numerics numerics(precision);
    const std::string engine = numerics.ggml() ? "llama.cpp" : numerics.mlx() ? "mlx-lm" : "plumb";
    for (const Ids* ids : {static_cast<const Ids*>(&bench.ids), &split}) {
      Recorded recorded(*ids, bench.captures);
      if (!recorded.run(bench.model.network, {}, precision, bench.pool)) continue;
      Checker checker(
          bench.model.network, recorded,
          arithmetic_of(bench.model.network, recorded, type_of(precision), engine, bench.pool),
          bench.pool);
      const auto checks = checker.run();
      auto alarms = std::ranges::count_if(checks, [](const Check& c) { return c.fails; });
      if (alarms == 0) alarms = std::ssize(explain(checker, *bench.model.config, checks).findings);
      bench.print(
          {{"planted", json::array()},
           {"right", std::string(to_string(precision)) + (ids == &split ? ", in pieces" : "")},
           {"alarms", alarms}});
    }
  }
}

}  // namespace
}  // namespace plumb::mutations

int main(int argc, char** argv) {
  using namespace plumb::mutations;
  const std::map<std::string, Captures> kinds = {{"all", Captures::kAll},
                                                 {"blocks", Captures::kBlocks},
                                                 {"logits", Captures::kLogits},
                                                 {"logprobs", Captures::kLogprobs}};
  if (argc != 6 || !kinds.contains(argv[2])) return 2;
  const std::string checkpoint = argv[1];
  const std::string what = argv[3];
  const std::size_t most = std::strtoul(argv[4], nullptr, 10);
  Bench bench{checkpoint, plumb::golden::load(checkpoint), prompt_of(checkpoint),
              kinds.at(argv[2])};
  if (what == "right") {
    right(bench);
  } else if (what == "unknown") {
    unknown(bench, most);
  } else {
    planted(bench, what == "pairs" ? 2 : 1, most,
            static_cast<unsigned>(std::strtoul(argv[5], nullptr, 10)));
  }
  return 0;
}
