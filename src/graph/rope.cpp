// Rotary frequencies. Reference: transformers, modeling_rope_utils.py, one function there for each
// scaling here. The float instance rounds after every operation, as the reference's float32 tensors
// do; the double instance is the exact formula.
#include "graph/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace plumb {
namespace {

struct ScalingName {
  std::string_view name;
  RopeScaling scaling;
};

constexpr ScalingName kScalings[] = {
    {"default", RopeScaling::kNone},      {"linear", RopeScaling::kLinear},
    {"dynamic", RopeScaling::kDynamic},   {"yarn", RopeScaling::kYarn},
    {"llama3", RopeScaling::kLlama3},     {"longrope", RopeScaling::kLongrope},
    {"divisors", RopeScaling::kDivisors},
};

double yarn_factor(const Config& config, const RopeParameters& parameters) {
  if (parameters.factor) return *parameters.factor;
  const double original = parameters.original_max_position_embeddings.value_or(0);
  return original > 0 ? static_cast<double>(config.max_position_embeddings) / original : 0;
}

double required(const Config& config, const std::optional<double>& value, std::string_view key,
                double minimum) {
  if (!value || !std::isfinite(*value) || *value < minimum) {
    config.reject(
        "rope_parameters: " + std::string(key) +
        (value ? " is " + std::to_string(*value) + ", the least is " + std::to_string(minimum)
               : " is missing"));
    return minimum;
  }
  return *value;
}

constexpr double kTiny = 1e-6;  // the least positive factor or length that makes sense

// base^(2i/dims) for i in [0, dims/2), in the arithmetic of Real.
template <class Real>
std::vector<Real> powers(double base, std::int64_t dims) {
  std::vector<Real> result(static_cast<std::size_t>(dims / 2));
  for (std::size_t i = 0; i < result.size(); ++i) {
    const Real exponent = static_cast<Real>(2 * i) / static_cast<Real>(dims);
    result[i] = static_cast<Real>(std::pow(base, static_cast<double>(exponent)));
  }
  return result;
}

template <class Real>
std::vector<Real> reciprocals(std::vector<Real> values) {
  for (Real& value : values)
    value = Real{1} / value;
  return values;
}

// The frequencies above a wavelength are divided by the factor, those below another are kept, those
// between are blended. torch computes number / tensor as reciprocal times number, which rounds twice.
template <class Real>
void scale_llama3(const RopeFrequencies& f, std::vector<Real>& inv_freq) {
  const auto original = static_cast<Real>(f.original_length);
  const auto factor = static_cast<Real>(f.factor);
  const auto low_wavelength = static_cast<Real>(f.original_length / f.low_freq_factor);
  const auto high_wavelength = static_cast<Real>(f.original_length / f.high_freq_factor);
  for (Real& frequency : inv_freq) {
    const Real wavelength = Real{1} / frequency * static_cast<Real>(2 * std::numbers::pi);
    if (wavelength > low_wavelength) {
      frequency /= factor;
    } else if (!(wavelength < high_wavelength)) {
      const Real smooth = (Real{1} / wavelength * original - static_cast<Real>(f.low_freq_factor)) /
                          static_cast<Real>(f.high_freq_factor - f.low_freq_factor);
      frequency = (Real{1} - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

// A ramp over the pairs from kept (fast) to divided (slow) frequencies.
// https://arxiv.org/abs/2309.00071
template <class Real>
std::vector<Real> yarn(const RopeFrequencies& f, std::int64_t dims) {
  const auto correction = [&](double rotations) {
    return static_cast<double>(dims) *
           std::log(f.original_length / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(f.theta));
  };
  double low = correction(f.beta_fast);
  double high = correction(f.beta_slow);
  if (f.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dims - 1));
  if (low == high) high += 0.001;
  std::vector<Real> result = powers<Real>(f.theta, dims);
  for (std::size_t i = 0; i < result.size(); ++i) {
    const Real kept = Real{1} / result[i];
    const Real divided = Real{1} / (static_cast<Real>(f.factor) * result[i]);
    const Real ramp =
        std::clamp((static_cast<Real>(i) - static_cast<Real>(low)) / static_cast<Real>(high - low),
                   Real{0}, Real{1});
    const Real keep = Real{1} - ramp;
    result[i] = divided * (Real{1} - keep) + kept * keep;
  }
  return result;
}

// The base grows with the sequence. https://www.reddit.com/r/LocalLLaMA/comments/14mrgpr
template <class Real>
std::vector<Real> dynamic(const RopeFrequencies& f, std::int64_t dims, std::int64_t length) {
  if (static_cast<double>(length) <= f.original_length)
    return reciprocals(powers<Real>(f.theta, dims));
  // The reference's length is a tensor here, so the growth is computed in its dtype.
  const Real growth = static_cast<Real>(f.factor) * static_cast<Real>(length) /
                          static_cast<Real>(f.original_length) -
                      static_cast<Real>(f.factor - 1);
  const double exponent = static_cast<double>(dims) / static_cast<double>(dims - 2);
  const Real power = static_cast<Real>(std::pow(static_cast<double>(growth), exponent));
  const Real base = static_cast<Real>(f.theta) * power;
  return reciprocals(powers<Real>(static_cast<double>(base), dims));
}

}  // namespace

RopeFrequencies rope_frequencies(const Config& config, const RopeParameters& parameters) {
  RopeFrequencies f{.scaling = RopeScaling::kNone,
                    .theta = required(config, parameters.theta, "rope_theta", kTiny),
                    .factor = 1,
                    .original_length = static_cast<double>(config.max_position_embeddings),
                    .low_freq_factor = 0,
                    .high_freq_factor = 0,
                    .beta_fast = 0,
                    .beta_slow = 0,
                    .truncate = parameters.truncate,
                    .short_factor = {},
                    .long_factor = {},
                    .divisors = {}};
  const auto named =
      std::find_if(std::begin(kScalings), std::end(kScalings),
                   [&](const ScalingName& entry) { return entry.name == parameters.type; });
  if (named == std::end(kScalings)) {
    config.reject("rope_type \"" + parameters.type +
                  "\" is not known; known are default, linear, dynamic, yarn, llama3 and longrope");
    return f;
  }
  f.scaling = named->scaling;
  if (f.scaling == RopeScaling::kNone) return f;
  if (f.scaling == RopeScaling::kDivisors) {  // GGUF's rope_freqs, one for each pair of channels
    f.divisors = parameters.divisors;
    if (f.divisors.empty()) config.reject("rope_type divisors needs divisors");
    if (std::any_of(f.divisors.begin(), f.divisors.end(),
                    [](double d) { return !(std::isfinite(d) && d > 0); })) {
      config.reject("a rotary divisor is not a positive number");
    }
    return f;
  }
  if (f.scaling == RopeScaling::kDynamic) {
    f.original_length = required(config, f.original_length, "max_position_embeddings", 1);
  } else if (f.scaling != RopeScaling::kLinear) {
    f.original_length = required(config, parameters.original_max_position_embeddings,
                                 "original_max_position_embeddings", 1);
  }
  if (f.scaling == RopeScaling::kYarn) {
    f.factor = required(config, yarn_factor(config, parameters), "factor", kTiny);
    f.beta_fast = parameters.beta_fast.value_or(0) != 0 ? *parameters.beta_fast : 32;
    f.beta_slow = parameters.beta_slow.value_or(0) != 0 ? *parameters.beta_slow : 1;
  } else if (f.scaling == RopeScaling::kLongrope) {
    f.short_factor = parameters.short_factor;
    f.long_factor = parameters.long_factor;
    if (f.short_factor.empty() || f.short_factor.size() != f.long_factor.size()) {
      config.reject("longrope needs short_factor and long_factor of equal size");
    }
  } else {
    f.factor = required(config, parameters.factor, "factor", kTiny);
  }
  if (f.scaling == RopeScaling::kLlama3) {
    f.low_freq_factor = required(config, parameters.low_freq_factor, "low_freq_factor", kTiny);
    f.high_freq_factor = required(config, parameters.high_freq_factor, "high_freq_factor", kTiny);
  }
  return f;
}

double rope_attention_factor(const Config& config, const RopeParameters& parameters) {
  if (parameters.type != "yarn" && parameters.type != "longrope") return 1;
  if (parameters.attention_factor) return *parameters.attention_factor;
  const double factor = yarn_factor(config, parameters);
  if (factor <= 1) return 1;
  if (parameters.type == "longrope") {
    return std::sqrt(1 +
                     std::log(factor) /
                         std::log(parameters.original_max_position_embeddings.value_or(factor)));
  }
  const auto mscale = [&](double weight) { return 0.1 * weight * std::log(factor) + 1; };
  if (parameters.mscale.value_or(0) != 0 && parameters.mscale_all_dim.value_or(0) != 0) {
    return mscale(*parameters.mscale) / mscale(*parameters.mscale_all_dim);
  }
  return mscale(1);
}

template <class Real>
std::vector<double> inverse_frequencies(const RopeFrequencies& f, std::int64_t dims,
                                        std::int64_t length) {
  std::vector<Real> inv_freq;
  switch (f.scaling) {
    case RopeScaling::kYarn:
      inv_freq = yarn<Real>(f, dims);
      break;
    case RopeScaling::kDynamic:
      inv_freq = dynamic<Real>(f, dims, length);
      break;
    case RopeScaling::kLongrope: {
      const auto& factors =
          static_cast<double>(length) > f.original_length ? f.long_factor : f.short_factor;
      inv_freq = powers<Real>(f.theta, dims);
      for (std::size_t i = 0; i < inv_freq.size(); ++i) {
        inv_freq[i] =
            Real{1} / (static_cast<Real>(i < factors.size() ? factors[i] : 1) * inv_freq[i]);
      }
      break;
    }
    case RopeScaling::kNone:
    case RopeScaling::kLinear:
    case RopeScaling::kLlama3:
    case RopeScaling::kDivisors:
      inv_freq = reciprocals(powers<Real>(f.theta, dims));
      if (f.scaling == RopeScaling::kLinear) {
        for (Real& frequency : inv_freq)
          frequency /= static_cast<Real>(f.factor);
      }
      if (f.scaling == RopeScaling::kLlama3) scale_llama3(f, inv_freq);
      break;
  }
  for (std::size_t i = 0; i < std::min(inv_freq.size(), f.divisors.size()); ++i) {
    inv_freq[i] /= static_cast<Real>(f.divisors[i]);
  }
  return {inv_freq.begin(), inv_freq.end()};
}

template std::vector<double> inverse_frequencies<float>(const RopeFrequencies&, std::int64_t,
                                                        std::int64_t);
template std::vector<double> inverse_frequencies<double>(const RopeFrequencies&, std::int64_t,
                                                         std::int64_t);

}  // namespace plumb
