// Prints how well the diagnosis does: causes planted in our own executor, alone or in pairs, diagnosed from what was captured.
//   diagnose_matrix_tool CHECKPOINT all|blocks|logits|logprobs singles|pairs MOST SEED
// A line for each that is not named, then a row: checkpoint, captured, planted at once, runs, at their stage, named, the longest
// diagnosis in seconds.
#include <chrono>
#include <cstdlib>
#include <iostream>

#include "mutations.h"

namespace plumb::mutations {
namespace {

void run(const std::string& checkpoint, Captures captures, bool pairs, std::size_t most,
         unsigned seed) {
  const Model model = golden::load(checkpoint);
  const Ids ids = prompt_of(checkpoint);
  ThreadPool pool(2);
  Source source(model, ids, captures, seed);
  std::size_t planted = 0;
  int named = 0;
  int at_stage = 0;
  double longest = 0;
  while (planted < most) {
    const auto group = source.next(pairs ? 2 : 1, pool);
    if (group.empty()) break;
    const auto begin = std::chrono::steady_clock::now();
    const Verdict verdict = judge(model, *source.recorded(), group, pool);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    longest = std::max(longest, seconds);
    constexpr double kLong = 10;
    if (seconds > kLong) {
      std::cout << "  " << seconds << " s:";
      for (const Plant* plant : group)
        std::cout << " " << plant->text();
      std::cout << std::endl;
    }
    ++planted;
    named += verdict.all_named() ? 1 : 0;
    at_stage += verdict.all_at_stage() ? 1 : 0;
    if (verdict.all_named() && verdict.all_at_stage()) continue;
    std::cout << "  " << (verdict.all_named() ? "another stage: " : "missed: ");
    for (const Plant* plant : group)
      std::cout << plant->text() << "; ";
    std::cout << "came out as" << verdict.findings << " (" << seconds << " s)" << std::endl;
  }
  std::cout << "| " << checkpoint << " | " << to_string(captures) << " | "
            << (pairs ? "pairs" : "singles") << " | " << planted << " | " << at_stage << " | "
            << named << " | " << longest << " |" << std::endl;
}

}  // namespace
}  // namespace plumb::mutations

int main(int argc, char** argv) {
  using plumb::mutations::Captures;
  if (argc != 6) return 2;
  const std::map<std::string, Captures> kinds = {{"all", Captures::kAll},
                                                 {"blocks", Captures::kBlocks},
                                                 {"logits", Captures::kLogits},
                                                 {"logprobs", Captures::kLogprobs}};
  plumb::mutations::run(argv[1], kinds.at(argv[2]), std::string(argv[3]) == "pairs",
                        std::strtoul(argv[4], nullptr, 10),
                        static_cast<unsigned>(std::strtoul(argv[5], nullptr, 10)));
  return 0;
}
