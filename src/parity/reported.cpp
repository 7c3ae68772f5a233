// divergence.md rows 9 and 20a.
#include "parity/reported.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "engine/sampler.h"
#include "parity/compare_tokens.h"
#include "parity/processed_logits.h"

namespace plumb {
namespace {

// What a temperature leaves of each row: the difference of the reports (the log of what a cut left out, where there was one) and the
// distance once that difference is taken away.
struct Fit {
  double temperature = 1;
  std::vector<double> offsets;  // by row
  double plain = 0;             // relative L2 without offsets
  double shifted = 0;           // with them
};

std::vector<double> at_temperature(std::span<const double> logits, double temperature) {
  std::vector<double> scaled(logits.begin(), logits.end());
  for (double& value : scaled)
    value /= temperature;
  return log_softmax(scaled);
}

class Reports {
 public:
  Reports(const Tensor& logprobs, const Tensor& ids, const Tensor& logits) : logprobs_(logprobs), ids_(ids), logits_(logits) {}

  Fit fit(double temperature) const {
    Fit result{.temperature = temperature, .offsets = {}, .plain = 0, .shifted = 0};
    double norm = 0;
    for (std::int64_t t = 0; t < logprobs_.tokens(); ++t) {
      const auto ours = at_temperature(logits_.row(t), temperature);
      double sum = 0;
      double square = 0;
      double count = 0;
      for (std::size_t i = 0; i < ids_.row(t).size(); ++i) {
        const double reported = logprobs_.row(t)[i];
        if (!std::isfinite(reported)) continue;
        const double difference = reported - ours[static_cast<std::size_t>(ids_.row(t)[i])];
        sum += difference;
        square += difference * difference;
        norm += reported * reported;
        ++count;
      }
      result.offsets.push_back(count > 0 ? sum / count : 0);
      result.plain += square;
      result.shifted += std::max(square - (count > 0 ? sum * sum / count : 0), 0.0);
    }
    norm = std::max(norm, std::numeric_limits<double>::min());
    result.plain = std::sqrt(result.plain / norm);
    result.shifted = std::sqrt(result.shifted / norm);
    return result;
  }

  // The temperature under which `of` is least.
  Fit best(const std::function<double(const Fit&)>& of) const {
    constexpr double kLow = 0.05;
    constexpr int kGrid = 48;
    constexpr double kStep = 1.135;  // up to about 20
    constexpr double kGolden = 0.6180339887498949;
    int place = 0;
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < kGrid; ++i) {
      const double value = of(fit(kLow * std::pow(kStep, i)));
      if (value >= least) continue;
      least = value;
      place = i;
    }
    double low = place - 1;
    double high = place + 1;
    const auto try_at = [&](double x) { return of(fit(kLow * std::pow(kStep, x))); };
    for (int i = 0; i < 60; ++i) {
      const double a = high - kGolden * (high - low);
      const double b = low + kGolden * (high - low);
      if (try_at(a) < try_at(b)) {
        high = b;
      } else {
        low = a;
      }
    }
    const double solved = kLow * std::pow(kStep, (low + high) / 2);
    // What people set has two digits behind the point.
    const Fit rounded = fit(std::round(solved * 100) / 100);
    const Fit exact = fit(solved);
    return of(rounded) <= 2 * of(exact) + 1e-9 ? rounded : exact;
  }

  // How many ids a cut to probability `p` leaves in each row: the likeliest until they hold that much.
  std::vector<std::vector<double>> sorted_probabilities(double temperature) const {
    std::vector<std::vector<double>> rows;
    for (std::int64_t t = 0; t < logprobs_.tokens(); ++t) {
      auto row = at_temperature(logits_.row(t), temperature);
      for (double& value : row)
        value = std::exp(value);
      std::sort(row.begin(), row.end(), std::greater<>());
      rows.push_back(std::move(row));
    }
    return rows;
  }

 private:
  const Tensor& logprobs_;
  const Tensor& ids_;
  const Tensor& logits_;
};

// Whether each row's offset is minus the log of what `mass` keeps of it.
bool explains_offsets(const std::vector<double>& offsets, const std::vector<std::vector<double>>& rows,
                      const std::function<double(const std::vector<double>&)>& mass) {
  constexpr double kNear = 2e-3;
  for (std::size_t t = 0; t < offsets.size(); ++t) {
    if (std::abs(offsets[t] + std::log(mass(rows[t]))) > kNear) return false;
  }
  return true;
}

double likeliest(const std::vector<double>& sorted, std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < std::min(count, sorted.size()); ++i)
    sum += sorted[i];
  return sum;
}

double nucleus(const std::vector<double>& sorted, double p) {
  double sum = 0;
  for (const double value : sorted) {
    sum += value;
    if (sum >= p) break;
  }
  return sum;
}

}  // namespace

std::optional<ReportCause> find_misread(const Tensor& suspect, const Tensor& ours) {
  if (suspect.shape != ours.shape) return std::nullopt;
  const auto misread = find_misreading(suspect.data, ours.data);
  if (!misread) return std::nullopt;
  const bool brain = misread->words.find("bfloat16") != std::string::npos;
  return ReportCause{.row = "20a",
                     .cause = "the values are " + misread->words,
                     .field = "report.bytes",
                     .expected = std::string(brain ? "bfloat16" : "float16"),
                     .found = std::string("float32"),
                     .residual = misread->residual,
                     .also = {},
                     .processing = {}};
}

std::optional<ReportCause> find_processed(const Tensor& logprobs, const Tensor& ids, const Tensor& logits, double budget) {
  if (logprobs.shape != ids.shape || logprobs.tokens() != logits.tokens()) return std::nullopt;
  // A token that is certain says nothing of what was done.
  if (std::all_of(logprobs.data.begin(), logprobs.data.end(), [](double value) { return !(std::isfinite(value) && value < -1e-6); }))
    return std::nullopt;
  const Reports reports(logprobs, ids, logits);
  const Fit plain = reports.best([](const Fit& fit) { return fit.plain; });
  const auto cause = [&](std::string words, const char* field, FieldValue expected, FieldValue found, double residual,
                         const Processing& processing) {
    return ReportCause{.row = "9",
                       .cause = std::move(words),
                       .field = field,
                       .expected = std::move(expected),
                       .found = std::move(found),
                       .residual = residual,
                       .also = {},
                       .processing = processing};
  };
  if (plain.plain <= budget) {
    return cause("log-probabilities are of the logits over a temperature, not of the logits themselves", "report.temperature", 1.0,
                 plain.temperature, plain.plain, {.temperature = plain.temperature, .top_k = 0, .top_p = 1});
  }
  if (logprobs.shape[1] < 2) return std::nullopt;  // of one id, an offset explains anything
  const Fit cut = reports.best([](const Fit& fit) { return fit.shifted; });
  if (!(cut.shifted <= budget)) return std::nullopt;
  const auto rows = reports.sorted_probabilities(cut.temperature);
  const std::string warm =
      std::abs(cut.temperature - 1) < 1e-6 ? "" : fmt::format("over a temperature of {:.4g} ", cut.temperature);
  constexpr std::size_t kMostKept = 1000;
  for (std::size_t count = 1; count <= std::min(rows[0].size(), kMostKept); ++count) {
    if (!explains_offsets(cut.offsets, rows, [&](const auto& row) { return likeliest(row, count); })) continue;
    return cause("log-probabilities are of the likeliest ids alone " + warm + "(top k), renormalised, not of the logits themselves",
                 "report.top_k", std::monostate{}, static_cast<std::int64_t>(count), cut.shifted,
                 {.temperature = cut.temperature, .top_k = static_cast<std::int64_t>(count), .top_p = 1});
  }
  for (int percent = 99; percent >= 1; --percent) {
    const double p = percent / 100.0;
    if (!explains_offsets(cut.offsets, rows, [&](const auto& row) { return nucleus(row, p); })) continue;
    return cause("log-probabilities are of the likeliest ids alone " + warm + "(top p), renormalised, not of the logits themselves",
                 "report.top_p", std::monostate{}, p, cut.shifted, {.temperature = cut.temperature, .top_k = 0, .top_p = p});
  }
  return std::nullopt;
}

Tensor report_of(const Tensor& logits, const Tensor& ids, const Processing& processing) {
  Tensor result(ids.shape);
  for (std::int64_t t = 0; t < ids.tokens(); ++t) {
    const auto all = at_temperature(logits.row(t), processing.temperature);
    std::vector<double> sorted(all);
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    std::vector<double> probabilities(sorted);
    for (double& value : probabilities)
      value = std::exp(value);
    double kept = 1;
    double least = -std::numeric_limits<double>::infinity();
    if (processing.top_k > 0 || processing.top_p < 1) {
      const auto most = static_cast<std::size_t>(processing.top_k > 0 ? processing.top_k : std::ssize(sorted));
      std::size_t count = 0;
      for (kept = 0; count < std::min(most, sorted.size()) && (count == 0 || kept < processing.top_p); ++count)
        kept += probabilities[count];
      least = sorted[count - 1];
    }
    for (std::size_t i = 0; i < ids.row(t).size(); ++i) {
      const double value = all[static_cast<std::size_t>(ids.row(t)[i])];
      result.row(t)[i] = value < least ? -std::numeric_limits<double>::infinity() : value - std::log(kept);
    }
  }
  return result;
}

namespace {

struct ReportedFrom {
  Tensor logits;  // of the rows that were reported
  bool own;       // the suspect's
};

// The suspect's own logits, where they were captured; else the checkpoint's.
std::optional<ReportedFrom> logits_of(Checker& checker, const Check& check, const Patch& so_far) {
  const Output& output = checker.network().graph.output(check.value);
  const auto held = checker.captured().value(check.step, output.name);
  const std::int64_t rows = checker.suspect(check).tokens();
  const bool own = held && held->values.shape.size() == 2 && held->values.tokens() >= rows && held->values.width() == output.shape[0];
  const Tensor all = own ? held->values : checker.whole(check, so_far);
  if (all.tokens() < rows) return std::nullopt;
  ReportedFrom from{.logits = Tensor({rows, all.width()}), .own = own};
  std::copy(all.data.end() - std::ssize(from.logits.data), all.data.end(), from.logits.data.begin());
  return from;
}

// The ids that stood before each of the last `rows` choices of a pass.
std::vector<SeenIds> seen_before(const Captured& captured, std::size_t step, std::int64_t rows) {
  SeenIds seen;
  const auto take = [&](std::size_t of, std::int32_t id) {
    seen.all.push_back(id);
    if (of > 0) seen.generated.push_back(id);
  };
  for (std::size_t before = 0; before < step; ++before) {
    for (const std::int32_t id : captured.fed_ids(before))
      take(before, id);
  }
  std::vector<SeenIds> list;
  const auto own = captured.fed_ids(step);
  for (std::size_t t = 0; t < own.size(); ++t) {
    take(step, own[t]);
    if (std::ssize(own) - static_cast<std::int64_t>(t) <= rows) list.push_back(seen);
  }
  return list;
}

void append(Tensor& rows, const Tensor& more) {
  if (rows.data.empty()) rows = Tensor({0, more.width()});
  if (rows.width() != more.width()) return;
  rows.data.insert(rows.data.end(), more.data.begin(), more.data.end());
  rows.shape[0] += more.tokens();
}

// What was done to the logits of this pass and the ones behind it, or to what was reported of them; under `known`, to this pass's.
std::optional<ReportCause> processed_logits(Checker& checker, const Check& check, const Patch& so_far, const ReportCause* known) {
  const Value logits = checker.network().graph.logits;
  if (check.value.stage != logits.stage || check.value.output != logits.output) return std::nullopt;
  const bool of_ids = check.reported == Reported::kLogprobs;
  Tensor suspect;
  Tensor ours;
  Tensor ids;
  std::vector<SeenIds> seen;
  for (std::size_t step = check.step; step < (known != nullptr ? check.step + 1 : checker.captured().steps().size()); ++step) {
    const auto one = step == check.step ? std::optional(check) : checker.check(step, check.value, check.reported);
    if (!one) continue;
    const Tensor reported = checker.suspect(*one);
    std::optional<Tensor> right;
    if (of_ids) {
      if (auto from = logits_of(checker, *one, so_far)) right = std::move(from->logits);
    } else {
      right = checker.computed(*one, so_far);
    }
    const auto before = seen_before(checker.captured(), step, reported.tokens());
    if (!right || right->tokens() != reported.tokens() || std::ssize(before) != reported.tokens()) continue;
    if (!suspect.data.empty() && suspect.width() != reported.width()) continue;
    append(suspect, reported);
    append(ours, *right);
    if (of_ids) append(ids, checker.reported_ids(*one));
    seen.insert(seen.end(), before.begin(), before.end());
  }
  if (suspect.data.empty()) return std::nullopt;
  return find_processed_logits(suspect, of_ids ? &ids : nullptr, ours, seen, check.budget, known);
}

constexpr double kRoom = 4;  // budgets: they were measured without the processing

}  // namespace

std::optional<ReportCause> find_report_cause(Checker& checker, const Check& check, const Patch& so_far) {
  const Tensor& suspect = checker.suspect(check);
  if (auto misread = find_misread(suspect, checker.computed(check, so_far))) return misread;
  if (auto processed = processed_logits(checker, check, so_far, nullptr)) return processed;
  if (check.reported != Reported::kLogprobs) return std::nullopt;
  const auto from = logits_of(checker, check, so_far);
  if (!from) return std::nullopt;
  auto cause = find_processed(suspect, checker.reported_ids(check), from->logits, kRoom * check.budget);
  if (cause && !(cause->residual * 10 < check.residual.relative_l2)) return std::nullopt;
  // A network that scales its logits reports the same.
  if (cause && !from->own && cause->field == "report.temperature") cause->also = {"56"};
  return cause;
}

bool explains_report(Checker& checker, const Check& check, const Patch& so_far, const ReportCause& cause) {
  const Tensor& suspect = checker.suspect(check);
  if (cause.field == "report.bytes") return find_misread(suspect, checker.computed(check, so_far)).has_value();
  if (cause.row == "10" || check.reported == Reported::kValues) return processed_logits(checker, check, so_far, &cause).has_value();
  const auto from = logits_of(checker, check, so_far);
  if (!from) return false;
  const Tensor ours = report_of(from->logits, checker.reported_ids(check), cause.processing);
  double error = 0;
  double scale = 0;  // a certain token's log-probability is 0: what is small is held to a unit
  for (std::size_t i = 0; i < ours.data.size(); ++i) {
    const bool cut = !std::isfinite(ours.data[i]);
    if (cut != !std::isfinite(suspect.data[i])) return false;
    if (cut) continue;
    error += (suspect.data[i] - ours.data[i]) * (suspect.data[i] - ours.data[i]);
    scale += std::max(ours.data[i] * ours.data[i], 1.0);
  }
  return std::sqrt(error) <= kRoom * check.budget * std::sqrt(scale);
}

bool follows_own_logits(Checker& checker, const Check& check) {
  if (check.reported != Reported::kLogprobs) return false;
  const auto from = logits_of(checker, check, {});
  return from && from->own && explains_report(checker, check, {}, ReportCause{});
}

}  // namespace plumb
