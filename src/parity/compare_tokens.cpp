// divergence.md rows 8, 11 and 20a.
#include "parity/compare_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/float_bits.h"
#include "parity/trace_side.h"

namespace plumb {
namespace {

// The logits from which generated[i] was chosen.
std::vector<double> logits_for(const TraceSide& side, std::int64_t position) {
  const StagePieces* stage = side.find_role(-1, "logits");
  if (stage == nullptr) return {};
  const std::vector<std::int64_t> only{position};
  for (const RowLayout& layout : side.layouts(*stage)) {
    const RowSet rows = side.gather(*stage, layout, &only);
    if (rows.size() == 1) return {rows.row(0).begin(), rows.row(0).end()};
  }
  return {};
}

// How many logits are above that of `id`.
std::int64_t rank_of(const std::vector<double>& logits, std::int32_t id) {
  const double own = logits[static_cast<std::size_t>(id)];
  return std::count_if(logits.begin(), logits.end(), [&](double value) { return value > own; });
}

std::string took(std::int64_t rank) {
  if (rank == 0) return "the largest logit";
  return fmt::format("with {} logit{} above it", rank, rank > 1 ? "s" : "");
}

// What one side chose, against its own logits, where the other chose nothing: the logits agree already.
void judge_alone(const TraceManifest& manifest, const TraceSide& side, const char* name,
                 TokenChoice& result) {
  std::size_t sampled = 0;
  std::size_t seen = 0;
  std::string first;
  for (std::size_t i = 0; i < manifest.generated.size(); ++i) {
    const std::int64_t position = std::ssize(manifest.token_ids) + static_cast<std::int64_t>(i) - 1;
    const auto logits = logits_for(side, position);
    const std::int32_t id = manifest.generated[i];
    if (id >= std::ssize(logits)) continue;
    ++seen;
    const std::int64_t rank = rank_of(logits, id);
    if (rank == 0) continue;
    ++sampled;
    if (first.empty())
      first = fmt::format("the token after position {} is {}, {}", position, id, took(rank));
  }
  if (sampled == 0) return;
  result.sampler = true;
  result.fault =
      fmt::format("the logits agree, but {} did not take the largest at {} of {} tokens; {}", name,
                  sampled, seen, first);
}

}  // namespace

TokenChoice compare_choice_of_tokens(const Trace& a, const Trace& b, const Comparison& comparison) {
  TokenChoice result;
  const auto& x = a.manifest();
  const auto& y = b.manifest();
  const TraceSide left(a);
  const TraceSide right(b);
  if (comparison.tokens.shift != 0 || (x.generated.empty() && y.generated.empty())) {
    result.not_observed.emplace_back(x.generated.empty() && y.generated.empty()
                                         ? "the tokens chosen: no side generated any"
                                         : "the tokens chosen: the prompts are not the same ids");
    return result;
  }
  if (x.generated.empty() || y.generated.empty()) {
    const bool of_a = y.generated.empty();
    judge_alone(of_a ? x : y, of_a ? left : right, of_a ? "A" : "B", result);
    return result;
  }
  if (x.token_ids != y.token_ids) {
    result.not_observed.emplace_back("the tokens chosen: the prompts are not the same ids");
    return result;
  }
  const std::size_t both = std::min(x.generated.size(), y.generated.size());
  const auto differ =
      std::mismatch(x.generated.begin(), x.generated.begin() + static_cast<std::ptrdiff_t>(both),
                    y.generated.begin());
  const auto at = static_cast<std::size_t>(differ.first - x.generated.begin());
  if (at == both) return result;
  const std::int32_t p = x.generated[at];
  const std::int32_t q = y.generated[at];
  const std::int64_t position = std::ssize(x.token_ids) + static_cast<std::int64_t>(at) - 1;
  const std::string where =
      fmt::format("the token after position {}: A took {}, B {}", position, p, q);
  if (comparison.first_fault) {
    result.notes.push_back(where);
    return result;
  }
  const auto l = logits_for(left, position);
  const auto r = logits_for(right, position);
  if (l.empty() || l.size() != r.size() || std::max(p, q) >= std::ssize(l)) {
    result.fault =
        where + "; the logits there were not captured on both sides, so that nothing says why";
    return result;
  }
  double noise = 0;
  for (std::size_t i = 0; i < l.size(); ++i)
    noise = std::max(noise, std::abs(l[i] - r[i]));
  const std::int64_t rank_a = rank_of(l, p);
  const std::int64_t rank_b = rank_of(r, q);
  if (rank_a == 0 && rank_b == 0) {
    const double gap = l[static_cast<std::size_t>(p)] - l[static_cast<std::size_t>(q)];
    result.notes.push_back(fmt::format(
        "{}: a near tie, {:.2g} apart where the logits differ by up to {:.2g}", where, gap, noise));
    return result;
  }
  result.sampler = true;
  result.fault = fmt::format("the logits agree, the choice differs: {}, {} and {}{}", where,
                             took(rank_a), took(rank_b),
                             rank_a > 0 && rank_b > 0 ? "; both sampled"
                             : rank_a > 0             ? "; A sampled"
                                                      : "; B sampled");
  return result;
}

std::optional<ReportedRows> reported_logprobs(const TraceSide& a, const TraceSide& b,
                                              const TokenMatch& tokens) {
  const bool of_a = a.find_role(-1, "logprobs") != nullptr;
  const TraceSide& reports = of_a ? a : b;
  const TraceSide& computes = of_a ? b : a;
  const StagePieces* values = reports.find_role(-1, "logprobs");
  const StagePieces* ids = reports.find_role(-1, "logprobs.ids");
  const StagePieces* logits = computes.find_role(-1, "logits");
  if (values == nullptr || ids == nullptr || logits == nullptr ||
      computes.find_role(-1, "logprobs") != nullptr)
    return std::nullopt;
  const auto first_layout = [](const TraceSide& side, const StagePieces& stage) {
    const auto layouts = side.layouts(stage);
    return layouts.empty() ? RowSet{} : side.gather(stage, layouts[0], nullptr);
  };
  const RowSet reported = first_layout(reports, *values);
  const RowSet numbers = first_layout(reports, *ids);
  const RowSet computed = first_layout(computes, *logits);
  if (reported.positions != numbers.positions || reported.begin != numbers.begin)
    return std::nullopt;
  ReportedRows rows{.a = {}, .b = {}, .of_a = of_a};
  RowSet& theirs = of_a ? rows.a : rows.b;
  RowSet& ours = of_a ? rows.b : rows.a;
  theirs.begin.push_back(0);
  ours.begin.push_back(0);
  theirs.dtype = reported.dtype;
  for (std::size_t i = 0; i < reported.size(); ++i) {
    const std::int64_t position = reported.positions[i] + (of_a ? tokens.shift : -tokens.shift);
    const std::int64_t in_a = of_a ? reported.positions[i] : position;
    const auto found =
        std::lower_bound(computed.positions.begin(), computed.positions.end(), position);
    if (found == computed.positions.end() || *found != position || in_a < tokens.first ||
        in_a >= tokens.end)
      continue;
    const auto row = computed.row(static_cast<std::size_t>(found - computed.positions.begin()));
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double value : row)
      sum += std::exp(value - largest);
    for (std::size_t k = 0; k < reported.row(i).size(); ++k) {
      const double id = numbers.row(i)[k];
      if (!(id >= 0 && id < static_cast<double>(row.size()))) return std::nullopt;
      theirs.values.push_back(reported.row(i)[k]);
      ours.values.push_back(row[static_cast<std::size_t>(id)] - largest - std::log(sum));
    }
    for (RowSet* set : {&theirs, &ours}) {
      set->begin.push_back(set->values.size());
      set->channels.push_back(reported.channels[i]);
      set->keys_end.push_back(0);
      set->extra_keys.push_back(0);
      set->steps.push_back(0);
    }
    theirs.positions.push_back(reported.positions[i]);
    ours.positions.push_back(position);
  }
  if (theirs.size() == 0) return std::nullopt;
  return rows;
}

std::optional<Misreading> find_misreading(std::span<const double> read, std::span<const double> right) {
  constexpr double kNear = 0.02;
  constexpr std::size_t kLeast = 2;
  if (read.size() != right.size() || read.size() < kLeast) return std::nullopt;
  // Zero-extended: the lower two bytes hold the number, the upper are 0, so that the float is below 2^-133.
  for (const bool brain : {true, false}) {
    const auto of_bits = [&](std::uint16_t bits) {
      return static_cast<double>(brain ? bfloat16_to_float(bits) : half_to_float(bits));
    };
    const char* name = brain ? "bfloat16" : "float16";
    double error = 0;
    double norm = 0;
    bool small = true;
    for (std::size_t i = 0; i < read.size() && small; ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(read[i]));
      small = bits <= 0xFFFFU && static_cast<double>(static_cast<float>(read[i])) == read[i];
      const double value = of_bits(static_cast<std::uint16_t>(bits));
      if (!std::isfinite(value) || !std::isfinite(right[i])) continue;
      error += (value - right[i]) * (value - right[i]);
      norm += right[i] * right[i];
    }
    if (small && norm > 0 && std::sqrt(error / norm) < kNear)
      return Misreading{fmt::format("two-byte {} numbers read as four-byte floats, each with two zero bytes", name),
                        std::sqrt(error / norm)};
    // Two neighbours make one float: element i holds numbers 2i and 2i + 1.
    error = 0;
    norm = 0;
    for (std::size_t i = 0; 2 * i + 1 < right.size(); ++i) {
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(read[i]));
      const double low = of_bits(static_cast<std::uint16_t>(bits & 0xFFFFU));
      const double high = of_bits(static_cast<std::uint16_t>(bits >> 16));
      const double first = right[2 * i];
      const double second = right[2 * i + 1];
      if (!std::isfinite(low) || !std::isfinite(high) || !std::isfinite(first) ||
          !std::isfinite(second))
        continue;
      error += (low - first) * (low - first) + (high - second) * (high - second);
      norm += first * first + second * second;
    }
    if (norm > 0 && std::sqrt(error / norm) < kNear)
      return Misreading{fmt::format("pairs of two-byte {} numbers read as four-byte floats", name), std::sqrt(error / norm)};
  }
  return std::nullopt;
}

std::string misread_words(std::span<const double> read, std::span<const double> right) {
  const auto found = find_misreading(read, right);
  return found ? found->words : std::string();
}

}  // namespace plumb
