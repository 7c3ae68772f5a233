// What the choices of tokens are judged by: for each token generated the scores that stood beside it, logits or log-probabilities, and the penalties
// that samplers put on ids seen before.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "parity/captured.h"
#include "parity/trace.h"

namespace plumb {

struct Choice {
  std::vector<std::int32_t> ids;  // of `scores`; empty: the whole vocabulary, in order
  std::vector<double> scores;     // logits, or the log-probabilities that were reported
  std::int64_t at = -1;           // the token's place in `scores`; -1: it is not among them
  std::int32_t token = 0;
  std::size_t before = 0;     // tokens of prompt and answer that stood before it
  bool drafted = false;       // it was fed in the pass whose scores are its own
  double rounding = 0;        // of the scores, relative to the largest
  std::int64_t unshown = 0;   // entries of the vocabulary that have no score here
  double unshown_log = 0;     // log of what they have of the probability, where there are any, on the scale of `scores`
  bool signs = true;          // whether the scores have the signs of logits, which a repetition penalty asks for

  std::int32_t id(std::size_t place) const { return ids.empty() ? static_cast<std::int32_t>(place) : ids[place]; }
  double slack() const;  // within which two scores are a near tie (row 11)
};

struct Choices {
  std::vector<std::int32_t> history;  // of prompt and answer
  std::size_t prompt = 0;             // tokens of the prompt
  std::vector<Choice> list;
};

// What tells logits from the log-probabilities that were reported of them, which differ by a constant of each row: our own logits of a pass, nothing
// where there are none. [rows, vocabulary]
using OwnLogits = std::function<std::optional<Tensor>(std::size_t step)>;

// In order; a choice whose scores hold NaN is left out. `vocab` is the number of ids.
Choices choices_of(const Captured& suspect, const TraceManifest& manifest, std::int64_t vocab, const OwnLogits& own);

enum class SeenIn : std::uint8_t { kAll, kAnswer };

struct PenaltyAmounts {
  double repetition = 1;  // divides positive scores, multiplies negative ones
  double presence = 0;    // taken off
  double frequency = 0;   // the same for each time

  bool any() const { return repetition != 1 || presence != 0 || frequency != 0; }
  // The score of an id that was seen so often, as the first counts and as the two others do.
  double of(double score, int repeated, int counted) const;
};

struct Penalty : PenaltyAmounts {
  SeenIn repeated = SeenIn::kAll;   // where the first looks
  SeenIn counted = SeenIn::kAnswer;  // where the two others look
  std::optional<std::int64_t> window;  // in place of both: the last so many tokens
  std::map<std::int32_t, double> bias;
};

// The scores under the penalty.
std::vector<double> penalised(const Choices& choices, const Choice& choice, const Penalty& penalty);

// Choices under penalties of one extent, prepared: many amounts are asked of the same.
class Repetitions {
 public:
  Repetitions(const Choices& choices, const Penalty& extent);

  // Whether under the amounts of `penalty` every token is the largest score, near ties aside.
  bool explained_by(const Penalty& penalty) const;

 private:
  struct Entry {
    double score;
    int repeated;
    int counted;
  };
  struct Row {
    std::vector<Entry> seen;
    double most_unseen;
    Entry token;
    double slack;
  };
  std::vector<Row> rows_;
};

// The penalty, the simplest and of the roundest amount, under which every token is the largest score; nothing where none explains them.
std::optional<Penalty> penalty_that_explains(const Choices& choices);

}  // namespace plumb
