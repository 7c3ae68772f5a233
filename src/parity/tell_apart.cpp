#include "parity/tell_apart.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "parity/captured_views.h"

namespace plumb {
namespace {

constexpr double kClearly = 4;        // budgets between the two
constexpr double kRowSpread = 6;      // one row may be as much farther
constexpr std::int64_t kShort = 64;     // tokens of a prompt that shows what words do
constexpr std::int64_t kLongest = 512;  // tokens of one that shows what positions do
constexpr double kMostProducts = 4e9;   // multiplications of all prompts together: a few seconds
constexpr double kSame = 1e-12;         // between two that compute the same: what sums in double leave

// One pass over given ids, or the last of them in a pass of its own; nothing captured.
class Prompt final : public Captured {
 public:
  Prompt(std::vector<std::int32_t> ids, std::int64_t first, bool decodes) : ids_(std::move(ids)) {
    const std::int64_t last = decodes ? 1 : 0;
    steps_.push_back({.first = first, .count = std::ssize(ids_) - last});
    if (decodes) steps_.push_back({.first = first + std::ssize(ids_) - 1, .count = 1});
  }
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override {
    const auto begin = ids_.begin() + (steps_[step].first - steps_[0].first);
    return {begin, begin + steps_[step].count};
  }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override { return nullptr; }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<TraceStep> steps_;
};

// A value of a prompt under either cause, and as it should be.
class Three {
 public:
  Three(const BoundGraph& network, ThreadPool& pool, std::vector<std::int32_t> ids, std::int64_t first, bool decodes, Value value,
        const Patch& cause, const Patch& other)
      : ids_(std::move(ids)), prompt_(ids_, first, decodes) {
    const Patch nothing;
    Recompute right(network, prompt_, Numerics(Precision::kFp64), pool, nothing);
    const std::size_t pass = decodes ? 1 : 0;
    right_ = right.computed(pass, value);
    cause_ = Recompute(right, pool, cause, touched_stages(network, cause)).computed(pass, value);
    other_ = Recompute(right, pool, other, touched_stages(network, other)).computed(pass, value);
  }
  const std::vector<std::int32_t>& ids() const { return ids_; }

  // How far apart the two are in the first rows: the relative L2, or what one row of it may be off by.
  double apart(std::int64_t rows) const { return apart(cause_, other_, rows); }

  // The same, or how far the nearer of them is from what is right where that is less: a cause that does not show is not named.
  double told(std::int64_t rows) const {
    return std::min({apart(rows), apart(cause_, right_, rows), apart(other_, right_, rows)});
  }

 private:
  static double apart(const Tensor& x, const Tensor& y, std::int64_t rows) {
    if (x.shape != y.shape) return 1;
    const bool whole = rows >= x.tokens();
    const Residual r = whole ? residual(x, y) : residual(first_rows(x, rows), first_rows(y, rows));
    return std::max(r.relative_l2, r.worst_row / kRowSpread);
  }

  static Tensor first_rows(const Tensor& all, std::int64_t rows) {
    Shape shape = all.shape;
    shape[0] = rows;
    Tensor part(shape);
    std::copy_n(all.data.begin(), part.data.size(), part.data.begin());
    return part;
  }

  std::vector<std::int32_t> ids_;
  Prompt prompt_;
  Tensor right_;
  Tensor cause_;
  Tensor other_;
};

// The multiplications of one token up to the value.
double products_per_token(const BoundGraph& network, ThreadPool& pool, Value value) {
  const Prompt one({0}, 0, false);
  const Patch nothing;
  Recompute recompute(network, one, Numerics(Precision::kFp64), pool, nothing);
  double sum = 0;
  for (const int index : recompute.span_of(0, value)) {
    for (const int param : network.graph.stages[static_cast<std::size_t>(index)].params) {
      const auto& shape = network.graph.params[static_cast<std::size_t>(param)].shape;
      sum += shape.size() < 2 ? 0 : static_cast<double>(element_count(shape).value_or(0));
    }
  }
  return std::max(sum, 1.0);
}

std::set<int> touched_by(const BoundGraph& network, const Patch& cause, const Patch& other) {
  std::set<int> touched = touched_stages(network, cause);
  touched.merge(touched_stages(network, other));
  return touched;
}

// Lengths just past what either cause, or the graph, looks back.
std::set<std::int64_t> lengths(const BoundGraph& network, const Patch& cause, const Patch& other) {
  std::set<std::int64_t> list{2, 4, 8, 16, 32, 64, 128, 256, kLongest};
  const auto add = [&](std::int64_t length) {
    for (const std::int64_t n : {length, length + 1, length + 2}) {
      if (n > 1 && n <= kLongest) list.insert(n);
    }
  };
  const auto look = [&](const Stage& stage) {
    if (const auto* attend = std::get_if<Attend>(&stage.operation); attend != nullptr && attend->window) add(*attend->window);
    if (const auto* attend = std::get_if<AttendShared>(&stage.operation)) add(attend->window);
    const auto* rope = std::get_if<Rope>(&stage.operation);
    if (rope != nullptr && rope->frequencies.original_length > 0 && rope->frequencies.original_length < kLongest)
      add(static_cast<std::int64_t>(rope->frequencies.original_length));
  };
  for (const Stage& stage : network.graph.stages)
    look(stage);
  for (const Patch* patch : {&cause, &other}) {
    for (const auto& [index, stage] : patch->stages)
      look(stage);
  }
  return list;
}

std::vector<std::int32_t> stretched(const std::vector<std::int32_t>& ids, std::int64_t count) {
  std::vector<std::int32_t> all;
  for (std::int64_t i = 0; i < count; ++i)
    all.push_back(ids[static_cast<std::size_t>(i) % ids.size()]);
  return all;
}

// Ids from all over the vocabulary, no two alike: what depends on the words (a router's choice, a clamp that is never reached) shows sooner.
std::vector<std::int32_t> spread(std::int64_t vocab, std::int64_t count) {
  constexpr double kGolden = 0.6180339887498949;
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    const double part = static_cast<double>(i + 1) * kGolden;
    ids.push_back(static_cast<std::int32_t>((part - std::floor(part)) * static_cast<double>(vocab)));
  }
  return ids;
}

template <typename Wanted>
bool all_touched(const BoundGraph& network, const std::set<int>& touched, Wanted wanted) {
  return !touched.empty() && std::all_of(touched.begin(), touched.end(), [&](int index) {
    return wanted(network.graph.stages[static_cast<std::size_t>(index)]);
  });
}

bool rotates(const Stage& stage) {
  return std::holds_alternative<Rope>(stage.operation);
}

// Of a stage without memory a few tokens show what many would.
bool by_token(const Stage& stage) {
  return stage.states.empty();
}

}  // namespace

PromptSearch find_telling_prompt(const Checker& checker, const Check& check, const Patch& cause, const Patch& other,
                                 const std::vector<std::int32_t>& fed, std::int64_t most_positions) {
  const BoundGraph& network = checker.network();
  const double enough = kClearly * check.budget;
  const std::set<int> touched = touched_by(network, cause, other);
  const std::int64_t vocab = network.graph.stages[static_cast<std::size_t>(network.graph.logits.stage)].outputs[0].shape.back();
  const bool decodes = check.step > 0;  // what shows in later passes may be about what they remember
  const auto run = [&](std::vector<std::int32_t> ids, std::int64_t first, Value value) {
    return Three(network, checker.pool(), std::move(ids), first, decodes && first == 0, value, cause, other);
  };
  // A rotation depends on the position alone: one token that stands far enough shows what a prompt of that length would.
  const bool far = all_touched(network, touched, rotates);
  PromptSearch search;
  // The first tokens of a prompt that are enough, of the lengths in question: what comes after them does not reach back.
  const auto shortest = [&](const Three& three) {
    const std::int64_t all = std::ssize(three.ids());
    search.most = std::max(search.most, three.apart(all));
    for (const std::int64_t count : lengths(network, cause, other)) {
      if (count > all || (!decodes && three.told(count) <= enough)) continue;
      const Three alone = run({three.ids().begin(), three.ids().begin() + count}, 0, check.value);
      if (alone.told(count) <= enough) continue;
      search.prompt = TellingPrompt{.tokens = count, .ids = alone.ids(), .apart = alone.apart(count)};
      return true;
    }
    return false;
  };
  const double each = products_per_token(network, checker.pool(), check.value);
  double products = 0;
  for (const std::int64_t wanted : {kShort, kLongest}) {
    const auto count = std::min(wanted, static_cast<std::int64_t>((kMostProducts - products) / (6 * each)));
    if (count < 2 || (wanted == kLongest && (far || all_touched(network, touched, by_token)))) break;
    products += 6 * each * static_cast<double>(count);
    if (!fed.empty() && count > std::ssize(fed) && shortest(run(stretched(fed, count), 0, check.value))) return search;
    if (shortest(run(spread(vocab, count), 0, check.value))) return search;
    search.longest = count;
  }
  for (std::int64_t position = 2 * kShort; far && position < most_positions; position *= 2) {
    const Three three = run({fed.empty() ? 1 : fed.front()}, position, {*touched.begin(), 0});
    search.most = std::max(search.most, three.apart(1));
    search.longest = position + 1;
    if (three.told(1) <= enough) continue;
    search.prompt = TellingPrompt{.tokens = position + 1, .ids = {}, .apart = three.apart(1)};
    return search;
  }
  return search;
}

std::string telling_stage(const Checker& checker, const Check& check, const Patch& cause, const Patch& other) {
  const BoundGraph& network = checker.network();
  const IdsOnly ids(checker.captured());  // its first pass
  const std::set<int> touched = touched_by(network, cause, other);
  Recompute a(network, ids, Numerics(Precision::kFp64), checker.pool(), cause);
  Recompute b(network, ids, Numerics(Precision::kFp64), checker.pool(), other);
  if (checker.captured().fed_ids(0).empty()) return "";
  for (const int index : touched) {
    if (index > check.value.stage) break;
    const Stage& stage = network.graph.stages[static_cast<std::size_t>(index)];
    for (int o = 0; o < std::ssize(stage.outputs); ++o) {
      const Value value{index, o};
      if (index == check.value.stage && o == check.value.output) continue;
      const Tensor& x = a.computed(0, value);
      const Tensor& y = b.computed(0, value);
      if (x.shape != y.shape || residual(x, y).relative_l2 > kClearly * check.budget)
        return stage.outputs[static_cast<std::size_t>(o)].name;
    }
  }
  return "";
}

Told tell_apart(const Checker& checker, const Check& check, const Patch& cause, const Patch& other, std::int64_t most_positions,
                Alternative& alternative) {
  const PromptSearch search = find_telling_prompt(checker, check, cause, other, checker.captured().fed_ids(0), most_positions);
  if (search.prompt) {
    const TellingPrompt& prompt = *search.prompt;
    const std::string_view fed = check.step > 0 && !prompt.ids.empty() ? ", the last in a pass of its own," : "";
    alternative.tokens = prompt.tokens;
    alternative.ids = prompt.ids;
    alternative.words = fmt::format("a prompt of {} tokens{} tells them apart, by {:.1e} at {}", prompt.tokens, fed, prompt.apart, check.stage);
    constexpr std::size_t kFew = 24;
    if (prompt.ids.empty()) alternative.words += "; what it says does not matter";
    if (!prompt.ids.empty() && prompt.ids.size() <= kFew) alternative.words += fmt::format(": ids {}", fmt::join(prompt.ids, ","));
    if (prompt.ids.size() > kFew)
      alternative.words += fmt::format(": ids {},… (--json prints them all)", fmt::join(prompt.ids.begin(), prompt.ids.begin() + 8, ","));
    return Told::kByPrompt;
  }
  if (const std::string stage = telling_stage(checker, check, cause, other); !stage.empty()) {
    alternative.words = fmt::format("the same prompt tells them apart where {1} is captured; at {0} no other that was tried does", check.stage, stage);
    return Told::kByPrompt;
  }
  if (search.longest == 0) {
    alternative.words = fmt::format("no prompt was tried at {}: each takes too many multiplications", check.stage);
    return Told::kNever;
  }
  const bool same = search.most <= kSame;
  alternative.words = same ? fmt::format("the two compute the same under every prompt that was tried, of up to {} tokens", search.longest)
                           : fmt::format("no prompt that was tried, of up to {} tokens, tells them apart at {}", search.longest, check.stage);
  return same ? Told::kSame : Told::kNever;
}

}  // namespace plumb
