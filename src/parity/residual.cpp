// Norms of differences, by row and altogether.
#include "parity/residual.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/check.h"

namespace plumb {
namespace {

bool masked(double value) {
  return value <= kMaskedScore || std::isnan(value);
}

}  // namespace

Residual residual(const Tensor& y, const Tensor& f) {
  PLUMB_CHECK(y.shape == f.shape);
  Residual r{.relative_l2 = 0,
             .worst_row = 0,
             .worst_token = 0,
             .largest = 0,
             .cosine = 1,
             .bit_match = 1};
  std::vector<double> errors;
  std::vector<double> norms;
  double error = 0;
  double norm = 0;
  double dot = 0;
  double own = 0;
  std::size_t equal = 0;
  std::size_t broken = 0;
  for (std::int64_t t = 0; t < y.tokens(); ++t) {
    const auto ys = y.row(t);
    const auto fs = f.row(t);
    double row_error = 0;
    double row_norm = 0;
    for (std::size_t i = 0; i < ys.size(); ++i) {
      equal += ys[i] == fs[i] ? 1 : 0;
      if ((masked(ys[i]) && masked(fs[i])) || (std::isinf(ys[i]) && ys[i] == fs[i])) {
        equal += ys[i] == fs[i] ? 0 : 1;
        continue;
      }
      if (!std::isfinite(ys[i]) || !std::isfinite(fs[i]) || masked(ys[i]) || masked(fs[i])) {
        ++broken;
        continue;
      }
      const double difference = ys[i] - fs[i];
      r.largest = std::max(r.largest, std::abs(difference));
      row_error += difference * difference;
      row_norm += fs[i] * fs[i];
      dot += ys[i] * fs[i];
      own += ys[i] * ys[i];
    }
    errors.push_back(row_error);
    norms.push_back(row_norm);
    error += row_error;
    norm += row_norm;
  }
  if (y.data.empty()) return r;
  r.bit_match = static_cast<double>(equal) / static_cast<double>(y.data.size());
  const double mean = norm / static_cast<double>(std::max<std::size_t>(norms.size(), 1));
  for (std::size_t t = 0; t < errors.size(); ++t) {
    const double scale = std::max(norms[t], mean);
    const double row = scale > 0 ? std::sqrt(errors[t] / scale) : (errors[t] > 0 ? 1 : 0);
    if (row <= r.worst_row) continue;
    r.worst_row = row;
    r.worst_token = static_cast<std::int64_t>(t);
  }
  r.relative_l2 = norm > 0 ? std::sqrt(error / norm) : (error > 0 ? 1 : 0);
  r.cosine = norm > 0 && own > 0 ? dot / std::sqrt(norm * own) : (norm == own ? 1 : 0);
  // How many keys are masked otherwise is told, so that a search sees which of two masks is nearer.
  if (broken > 0)
    r.relative_l2 = r.worst_row = std::max(r.relative_l2, 1.0) + static_cast<double>(broken) / static_cast<double>(y.data.size());
  return r;
}

std::vector<double> row_errors(const Tensor& y, const Tensor& f) {
  PLUMB_CHECK(y.shape == f.shape);
  std::vector<double> errors;
  std::vector<double> norms;
  double mean = 0;
  for (std::int64_t t = 0; t < y.tokens(); ++t) {
    const auto ys = y.row(t);
    const auto fs = f.row(t);
    double error = 0;
    double norm = 0;
    for (std::size_t i = 0; i < ys.size(); ++i) {
      if (masked(ys[i]) && masked(fs[i])) continue;
      const bool broken = !std::isfinite(ys[i]) || !std::isfinite(fs[i]) || masked(ys[i]) || masked(fs[i]);
      error += broken ? std::numeric_limits<double>::infinity() : (ys[i] - fs[i]) * (ys[i] - fs[i]);
      norm += masked(fs[i]) || !std::isfinite(fs[i]) ? 0 : fs[i] * fs[i];
    }
    errors.push_back(error);
    norms.push_back(norm);
    mean += norm / static_cast<double>(y.tokens());
  }
  for (std::size_t t = 0; t < errors.size(); ++t) {
    const double scale = std::max(norms[t], mean);
    errors[t] = scale > 0 ? std::sqrt(errors[t] / scale) : (errors[t] > 0 ? 1 : 0);
  }
  return errors;
}

}  // namespace plumb
