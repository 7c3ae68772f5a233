#include "parity/processed_logits.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <span>

#include "engine/sampler.h"
#include "parity/choice_rows.h"
#include "parity/residual.h"

namespace plumb {
namespace {

constexpr double kRoom = 30;  // of the budget: of single elements, in units of the row's mean magnitude

// One row: what was reported of some ids, as logits that are right but for a constant of the row, which is taken off.
struct Row {
  std::span<const double> logits;
  std::vector<std::size_t> ids;
  std::vector<double> values;
  std::map<std::size_t, int> all;        // how often an id was seen
  std::map<std::size_t, int> generated;
  double tolerance = 0;
};

double magnitude(std::span<const double> row) {
  double squares = 0;
  for (const double value : row)
    squares += value * value;
  return std::sqrt(squares / static_cast<double>(std::max<std::size_t>(row.size(), 1)));
}

std::map<std::size_t, int> counted(const std::vector<std::int32_t>& ids, std::size_t width) {
  std::map<std::size_t, int> counts;
  for (const std::int32_t id : ids) {
    if (id >= 0 && static_cast<std::size_t>(id) < width) ++counts[static_cast<std::size_t>(id)];
  }
  return counts;
}

// What is the same for all ids of a row of log-probabilities that were not seen: their median difference.
double shift_of(const Row& row) {
  std::vector<double> apart;
  for (std::size_t i = 0; i < row.ids.size(); ++i) {
    if (!row.all.contains(row.ids[i]) && std::isfinite(row.values[i])) apart.push_back(row.logits[row.ids[i]] - row.values[i]);
  }
  if (apart.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::ranges::nth_element(apart, apart.begin() + std::ssize(apart) / 2);
  return apart[apart.size() / 2];
}

std::vector<Row> rows_of(const Tensor& suspect, const Tensor* ids, const Tensor& logits, const std::vector<SeenIds>& seen, double budget) {
  std::vector<Row> rows;
  for (std::int64_t t = 0; t < suspect.tokens(); ++t) {
    const auto width = static_cast<std::size_t>(logits.width());
    const SeenIds& own = seen[static_cast<std::size_t>(t)];
    Row row{.logits = logits.row(t),
            .ids = {},
            .values = {suspect.row(t).begin(), suspect.row(t).end()},
            .all = counted(own.all, width),
            .generated = counted(own.generated, width)};
    for (std::size_t i = 0; i < row.values.size(); ++i) {
      const double id = ids == nullptr ? static_cast<double>(i) : ids->row(t)[i];
      if (!(id >= 0) || id >= static_cast<double>(width)) return {};
      row.ids.push_back(static_cast<std::size_t>(id));
    }
    row.tolerance = kRoom * budget * magnitude(row.logits);
    if (ids != nullptr) {
      const double shift = shift_of(row);
      if (!std::isfinite(shift)) return {};
      for (double& value : row.values)
        value += shift;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

struct Kind {
  const char* field;
  const char* cause;
  double PenaltyAmounts::*which;
  double (*amount)(double logit, int count, double value);
};

constexpr Kind kKinds[] = {
    {"report.penalty", "ids that have been seen are divided by a penalty, or multiplied where they are negative, before the logits are reported",
     &PenaltyAmounts::repetition, [](double x, int, double y) { return x > 0 ? x / y : y / x; }},
    {"report.presence_penalty", "a constant is taken off ids that have been seen before the logits are reported",
     &PenaltyAmounts::presence, [](double x, int, double y) { return x - y; }},
    {"report.frequency_penalty", "a constant for each time that an id has been seen is taken off it before the logits are reported",
     &PenaltyAmounts::frequency, [](double x, int count, double y) { return (x - y) / count; }},
};

// Whether every id that was seen is changed by the amount, and no other.
bool holds(const std::vector<Row>& rows, const Kind& kind, bool generated, double amount) {
  PenaltyAmounts penalty;
  penalty.*kind.which = amount;
  return std::ranges::all_of(rows, [&](const Row& row) {
    const auto& counts = generated ? row.generated : row.all;
    for (std::size_t i = 0; i < row.ids.size(); ++i) {
      const double x = row.logits[row.ids[i]];
      const auto count = counts.find(row.ids[i]);
      const double right = count == counts.end() ? x : penalty.of(x, count->second, count->second);
      if (!(std::abs(row.values[i] - right) <= row.tolerance)) return false;
    }
    return true;
  });
}

ReportCause cause_of(const char* row, const char* cause, const char* field, FieldValue expected, FieldValue found) {
  return {.row = row,
          .cause = cause,
          .field = field,
          .expected = std::move(expected),
          .found = std::move(found),
          .residual = 0,
          .also = {},
          .processing = {}};
}

std::optional<ReportCause> penalised(const std::vector<Row>& rows, const ReportCause* known) {
  for (const Kind& kind : kKinds) {
    for (const bool generated : {false, true}) {
      if (known != nullptr && known->field != kind.field) continue;
      // The id that tells most.
      double most = 0;
      double amount = 0;
      for (const Row& row : rows) {
        const auto& counts = generated ? row.generated : row.all;
        for (std::size_t i = 0; i < row.ids.size(); ++i) {
          const auto count = counts.find(row.ids[i]);
          const double x = row.logits[row.ids[i]];
          if (count == counts.end() || std::abs(row.values[i] - x) <= most) continue;
          most = std::abs(row.values[i] - x);
          amount = kind.amount(x, count->second, row.values[i]);
        }
      }
      if (most == 0 || !std::isfinite(amount)) continue;
      const double rounded = std::round(amount * 1000) / 1000;  // what people set
      for (const double found : {rounded, amount}) {
        if (known != nullptr && std::abs(found - std::get<double>(known->found)) > 1e-3) continue;
        if (holds(rows, kind, generated, found)) return cause_of("10", kind.cause, kind.field, kind.field == kKinds[0].field ? 1.0 : 0.0, found);
      }
    }
  }
  return std::nullopt;
}

// The same few ids are off by the same amounts in every row.
std::optional<ReportCause> biased(const std::vector<Row>& rows, bool known) {
  constexpr std::size_t kMost = 16;
  std::map<std::size_t, double> bias;
  bool first = true;
  for (const Row& row : rows) {
    std::map<std::size_t, double> own;
    for (std::size_t i = 0; i < row.ids.size() && own.size() <= kMost; ++i) {
      const double apart = row.values[i] - row.logits[row.ids[i]];
      if (!(std::abs(apart) <= row.tolerance)) own[row.ids[i]] = apart;
    }
    if (own.empty() || own.size() > kMost) return std::nullopt;
    if (!first && !std::ranges::equal(own, bias, [&](const auto& a, const auto& b) {
          return a.first == b.first && (std::abs(a.second - b.second) <= 2 * row.tolerance || (a.second <= kMaskedScore && b.second <= kMaskedScore));
        }))
      return std::nullopt;
    bias = own;
    first = false;
  }
  const double found = std::round(bias.begin()->second * 1000) / 1000;
  if (rows.size() < 2 && !known) return std::nullopt;  // of one row, an element may be off for any reason
  return cause_of("10", "some ids have a bias in the logits that are reported", "report.bias", 0.0,
                  std::isfinite(found) ? FieldValue(found) : FieldValue(std::string("never")));
}

// Every row keeps its likeliest and says that the others are impossible.
std::optional<ReportCause> cut(const std::vector<Row>& rows, const ReportCause* known) {
  std::size_t least = std::numeric_limits<std::size_t>::max();
  std::size_t most = 0;
  double above = 0;  // p is more than this
  double up_to = 1;  // and at most this
  for (const Row& row : rows) {
    std::vector<double> kept;
    double largest_cut = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < row.ids.size(); ++i) {
      const double x = row.logits[row.ids[i]];
      if (row.values[i] <= kMaskedScore) {
        largest_cut = std::max(largest_cut, x);
        continue;
      }
      if (!(std::abs(row.values[i] - x) <= row.tolerance)) return std::nullopt;
      kept.push_back(x);
    }
    if (kept.empty() || kept.size() == row.ids.size() || std::ranges::min(kept) + row.tolerance < largest_cut) return std::nullopt;
    least = std::min(least, kept.size());
    most = std::max(most, kept.size());
    std::ranges::sort(kept, std::greater<>());
    const auto all = log_softmax(row.logits);
    const double top = *std::ranges::max_element(all) - kept.front();
    double sum = 0;
    for (const double x : kept)
      sum += std::exp(x + top);
    up_to = std::min(up_to, sum);
    above = std::max(above, sum - std::exp(kept.back() + top));
  }
  if (known != nullptr && known->field == "report.top_p") {  // one row fits a count as well
    constexpr double kNear = 1e-3;
    const double p = std::get<double>(known->found);
    return p >= above - kNear && p <= up_to + kNear ? std::optional(*known) : std::nullopt;
  }
  if (least == most) {
    return cause_of("9", "the logits are reported behind a cut to the likeliest ids (top k), not as they are", "report.top_k",
                    std::monostate{}, static_cast<std::int64_t>(most));
  }
  if (above > up_to + 1e-4) return std::nullopt;
  // Of what lies between, the roundest.
  double found = (above + up_to) / 2;
  for (const double step : {0.1, 0.05, 0.01, 0.001}) {
    const double round = std::ceil(above / step) * step;
    if (round > up_to + 1e-6) continue;
    found = std::min(round, 1.0);
    break;
  }
  return cause_of("9", "the logits are reported behind a cut to the likeliest ids (top p), not as they are", "report.top_p", std::monostate{}, found);
}

}  // namespace

std::optional<ReportCause> find_processed_logits(const Tensor& suspect, const Tensor* ids, const Tensor& logits, const std::vector<SeenIds>& seen,
                                                 double budget, const ReportCause* known) {
  if (suspect.tokens() != logits.tokens() || seen.size() != static_cast<std::size_t>(suspect.tokens())) return std::nullopt;
  std::vector<Row> rows = rows_of(suspect, ids, logits, seen, budget);
  // Of a prompt, what chooses sees the last row alone: rows that are as they should be tell nothing.
  std::erase_if(rows, [](const Row& row) {
    for (std::size_t i = 0; i < row.ids.size(); ++i) {
      if (!(std::abs(row.values[i] - row.logits[row.ids[i]]) <= row.tolerance)) return false;
    }
    return true;
  });
  // Of ids that were not penalised themselves, a report shows the sum's change alone.
  if (rows.empty()) return known != nullptr && ids != nullptr && known->row == "10" ? std::optional(*known) : std::nullopt;
  if (auto cause = penalised(rows, known)) return cause;
  if (known != nullptr && known->row == "10" && known->field != "report.bias") return std::nullopt;
  if (ids == nullptr) {
    if (auto cause = cut(rows, known); cause && (known == nullptr || known->field == cause->field)) return cause;
    if (auto cause = biased(rows, known != nullptr); cause && (known == nullptr || known->field == cause->field)) return cause;
  }
  return std::nullopt;
}

}  // namespace plumb
