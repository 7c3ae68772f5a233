// The structure of an error.
#include "parity/structure.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parity/residual.h"

namespace plumb {
namespace {

constexpr double kTouched = 1e-5;  // of a row's mean magnitude
constexpr double kExplained = 0.02;  // of an error's square: what a pattern may leave

bool usable(double value) {
  return std::isfinite(value) && value > kMaskedScore;
}

struct Error {
  const Tensor& y;
  const Tensor& f;
  std::vector<bool> tokens;
  std::vector<bool> channels;
  double square = 0;

  Error(const Tensor& suspect, const Tensor& ours)
      : y(suspect),
        f(ours),
        tokens(static_cast<std::size_t>(suspect.tokens()), false),
        channels(static_cast<std::size_t>(suspect.width()), false) {
    for (std::int64_t t = 0; t < y.tokens(); ++t) {
      double norm = 0;
      for (const double value : f.row(t))
        norm += usable(value) ? value * value : 0;
      const double scale = kTouched * std::sqrt(norm / static_cast<double>(f.row(t).size()));
      for (std::size_t i = 0; i < channels.size(); ++i) {
        const double difference = at(t, i);
        square += difference * difference;
        if (std::abs(difference) <= scale) continue;
        tokens[static_cast<std::size_t>(t)] = true;
        channels[i] = true;
      }
    }
  }

  double at(std::int64_t t, std::size_t i) const {
    const double a = y.row(t)[i];
    const double b = f.row(t)[i];
    return usable(a) && usable(b) ? a - b : 0;
  }

  // The share of the error that is left when every row (or channel) may have one factor of its own.
  double left_by_factors(bool by_row) const {
    const std::size_t outer = by_row ? tokens.size() : channels.size();
    const std::size_t inner = by_row ? channels.size() : tokens.size();
    double left = 0;
    for (std::size_t o = 0; o < outer; ++o) {
      double dot = 0;
      double norm = 0;
      double own = 0;
      for (std::size_t i = 0; i < inner; ++i) {
        const std::size_t t = by_row ? o : i;
        const std::size_t c = by_row ? i : o;
        const double error = at(static_cast<std::int64_t>(t), c);
        const double ours = f.row(static_cast<std::int64_t>(t))[c];
        if (!usable(ours)) continue;
        dot += error * ours;
        norm += ours * ours;
        own += error * error;
      }
      left += norm > 0 ? own - dot * dot / norm : own;
    }
    return square > 0 ? left / square : 0;
  }

  // The same for one constant added to each channel.
  double left_by_constants() const {
    double left = 0;
    const auto n = static_cast<double>(tokens.size());
    for (std::size_t c = 0; c < channels.size(); ++c) {
      double sum = 0;
      double own = 0;
      for (std::size_t t = 0; t < tokens.size(); ++t) {
        const double error = at(static_cast<std::int64_t>(t), c);
        sum += error;
        own += error * error;
      }
      left += own - sum * sum / n;
    }
    return square > 0 ? left / square : 0;
  }

  // Whether each row holds our values in another order.
  bool permuted() const {
    double left = 0;
    for (std::int64_t t = 0; t < y.tokens(); ++t) {
      std::vector<double> a(y.row(t).begin(), y.row(t).end());
      std::vector<double> b(f.row(t).begin(), f.row(t).end());
      std::sort(a.begin(), a.end());
      std::sort(b.begin(), b.end());
      for (std::size_t i = 0; i < a.size(); ++i)
        left += usable(a[i]) && usable(b[i]) ? (a[i] - b[i]) * (a[i] - b[i]) : 0;
    }
    return square > 0 && left < 1e-4 * square;
  }
};

std::string channels_in_words(const std::vector<bool>& touched, const Shape& shape) {
  const auto count = static_cast<std::size_t>(std::count(touched.begin(), touched.end(), true));
  if (count == touched.size()) return "all channels differ";
  std::string text =
      std::to_string(count) + " of " + std::to_string(touched.size()) + " channels differ";
  if (shape.size() != 3 || shape[1] < 2) return text;
  std::string heads;
  const auto width = static_cast<std::size_t>(shape[2]);
  std::size_t hit = 0;
  for (std::size_t h = 0; h < static_cast<std::size_t>(shape[1]); ++h) {
    const auto begin = touched.begin() + static_cast<std::ptrdiff_t>(h * width);
    if (std::find(begin, begin + static_cast<std::ptrdiff_t>(width), true) ==
        begin + static_cast<std::ptrdiff_t>(width))
      continue;
    heads += (hit++ > 0 ? ", " : "") + std::to_string(h);
  }
  if (hit < static_cast<std::size_t>(shape[1])) text += " (heads " + heads + ")";
  return text;
}

}  // namespace

std::string structure_of(const Tensor& y, const Tensor& f) {
  if (y.shape != f.shape || y.data.empty()) return "the shapes differ";
  const Error error(y, f);
  std::string text = channels_in_words(error.channels, y.shape);
  const auto first = std::find(error.tokens.begin(), error.tokens.end(), true);
  const auto count = std::count(error.tokens.begin(), error.tokens.end(), true);
  text += ", from token " + std::to_string(first - error.tokens.begin()) + " of the step on";
  if (count < error.tokens.end() - first)
    text += ", in " + std::to_string(count) + " of " + std::to_string(error.tokens.size()) +
            " tokens";
  double dot = 0;
  double norm = 0;
  for (std::int64_t t = 0; t < y.tokens(); ++t) {
    for (std::size_t i = 0; i < error.channels.size(); ++i) {
      if (!usable(f.row(t)[i])) continue;
      dot += error.at(t, i) * f.row(t)[i];
      norm += f.row(t)[i] * f.row(t)[i];
    }
  }
  const double one_factor =
      error.square > 0 && norm > 0 ? 1 - dot * dot / norm / error.square : 1;
  if (one_factor < kExplained) {
    text += "; everything is off by one factor, " + std::to_string(1 + dot / norm);
  } else if (y.tokens() > 1 && error.left_by_factors(true) < kExplained) {
    text += "; each row is off by a factor of its own";
  } else if (y.tokens() > 2 && error.left_by_factors(false) < kExplained) {
    text += "; each channel is off by a factor of its own";
  } else if (y.tokens() > 2 && error.left_by_constants() < kExplained) {
    text += "; each channel is off by a constant of its own";
  } else if (error.permuted()) {
    text += "; the values are ours in another order";
  }
  return text;
}

}  // namespace plumb
