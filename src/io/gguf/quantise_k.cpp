// K-quants: codes, group scales and block scales that make the weighted squared error small. The weights and the range of
// the search are those of ggml-quants.c (make_qkx2_quants, make_qx_quants); on top of them the rounded group scales are
// chosen by their error, neighbours included. docs/quantisation.md compares the errors.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/float_bits.h"
#include "io/gguf/kquant_scales.h"
#include "io/gguf/quantise.h"

namespace plumb {
namespace {

constexpr int kSixBits = 63;

// The nearest whole number, ties to even: adding 1.5 * 2^23 leaves no fraction bits. For |value| < 2^22.
int nearest(float value) {
  constexpr float kMagic = 12582912.0F;
  return static_cast<int>((value + kMagic) - kMagic);
}

int nearest_in(float value, int low, int high) {
  return nearest(std::clamp(value, static_cast<float>(low), static_cast<float>(high)));
}

float through_half(float value, std::uint8_t* out) {
  const std::uint16_t bits = float_to_half(value);
  std::memcpy(out, &bits, sizeof(bits));
  return half_to_float(bits);
}

// value = scale * code - minimum, with minimum >= 0 and codes of 0 to `highest`.
struct Affine {
  float scale;
  float minimum;
};

// Weighted squared error of `n` values under the best codes for `fit`.
float error_of(const float* values, const float* weights, std::size_t n, const Affine& fit,
               int highest) {
  const float inverse = fit.scale > 0 ? 1.0F / fit.scale : 0.0F;
  float error = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto code =
        static_cast<float>(nearest_in((values[i] + fit.minimum) * inverse, 0, highest));
    const float difference = fit.scale * code - fit.minimum - values[i];
    error += weights[i] * difference * difference;
  }
  return error;
}

// Least squares for scale and minimum, given codes from a trial scale.
Affine fit_to_codes(const float* values, const float* weights, std::size_t n, float low,
                    float inverse, int highest) {
  float w = 0;
  float wx = 0;
  float wl = 0;
  float wll = 0;
  float wlx = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto code = static_cast<float>(nearest_in(inverse * (values[i] - low), 0, highest));
    w += weights[i];
    wx += weights[i] * values[i];
    wl += weights[i] * code;
    wll += weights[i] * code * code;
    wlx += weights[i] * code * values[i];
  }
  const float determinant = w * wll - wl * wl;
  if (!(determinant > 0)) return {0, -low};
  const Affine fit{(w * wlx - wx * wl) / determinant, -(wll * wx - wl * wlx) / determinant};
  return fit.minimum >= 0 ? fit : Affine{wlx / wll, 0};
}

// Tries scales that spread the group's range over slightly fewer and slightly more codes than there are.
Affine best_affine(const float* values, const float* weights, std::size_t n, int highest,
                   float spread) {
  constexpr float kStep = 0.1F;
  const auto [smallest, largest] = std::minmax_element(values, values + n);
  const float low = std::min(*smallest, 0.0F);
  if (!(*largest > low)) return {0, -low};
  const float range = *largest - low;
  Affine best{range / static_cast<float>(highest), -low};
  float least = error_of(values, weights, n, best, highest);
  for (float extra = -spread; extra <= 1.0F + kStep / 2; extra += kStep) {
    const Affine fit = fit_to_codes(values, weights, n, low,
                                    (static_cast<float>(highest) + extra) / range, highest);
    if (!(fit.scale > 0)) continue;
    const float error = error_of(values, weights, n, fit, highest);
    if (error < least) {
      least = error;
      best = fit;
    }
  }
  return best;
}

// Six-bit scale and minimum of a group among the neighbours of the rounded ones, by error.
ScaleAndMinimum best_six_bits(const float* values, const float* weights, const Affine& wanted,
                              float d, float dmin, int highest) {
  const int scale = d > 0 ? nearest_in(wanted.scale / d, 0, kSixBits) : 0;
  const int minimum = dmin > 0 ? nearest_in(wanted.minimum / dmin, 0, kSixBits) : 0;
  ScaleAndMinimum best{scale, minimum};
  float least = std::numeric_limits<float>::infinity();
  for (int s = std::max(0, scale - 1); s <= std::min(kSixBits, scale + 1); ++s) {
    for (int m = std::max(0, minimum - 1); m <= std::min(kSixBits, minimum + 1); ++m) {
      const Affine fit{d * static_cast<float>(s), dmin * static_cast<float>(m)};
      const float error = error_of(values, weights, 32, fit, highest);
      if (error < least) {
        least = error;
        best = {s, m};
      }
    }
  }
  return best;
}

// Codes of 256 values; writes half d, half dmin and 12 bytes of scales to `out`. Elements weigh their magnitude plus the
// group's root mean square.
void encode_affine(const float* values, int highest, float spread, std::uint8_t* codes,
                   std::uint8_t* out) {
  std::array<float, 256> weights{};
  std::array<Affine, 8> wanted{};
  Affine most{0, 0};
  for (std::size_t group = 0; group < 8; ++group) {
    const float* x = values + group * 32;
    float squares = 0;
    for (std::size_t i = 0; i < 32; ++i)
      squares += x[i] * x[i];
    const float mean = std::sqrt(squares / 32);
    for (std::size_t i = 0; i < 32; ++i)
      weights[group * 32 + i] = mean + std::fabs(x[i]);
    wanted[group] = best_affine(x, &weights[group * 32], 32, highest, spread);
    most = {std::max(most.scale, wanted[group].scale),
            std::max(most.minimum, wanted[group].minimum)};
  }
  const float d = through_half(most.scale / kSixBits, out);
  const float dmin = through_half(most.minimum / kSixBits, out + 2);
  ScaleAndMinimum six[8];
  for (std::size_t group = 0; group < 8; ++group) {
    const float* x = values + group * 32;
    six[group] = best_six_bits(x, &weights[group * 32], wanted[group], d, dmin, highest);
    const float scale = d * static_cast<float>(six[group].scale);
    const float minimum = dmin * static_cast<float>(six[group].minimum);
    const float inverse = scale > 0 ? 1.0F / scale : 0.0F;
    for (std::size_t i = 0; i < 32; ++i) {
      codes[group * 32 + i] =
          static_cast<std::uint8_t>(nearest_in((x[i] + minimum) * inverse, 0, highest));
    }
  }
  pack_six_bits(six, out + 4);
}

// Nibbles of groups 2 k and 2 k + 1 share 32 bytes.
void pack_group_nibbles(const std::uint8_t* codes, std::uint8_t* out) {
  for (std::size_t pair = 0; pair < 4; ++pair) {
    for (std::size_t i = 0; i < 32; ++i) {
      out[pair * 32 + i] = static_cast<std::uint8_t>((codes[pair * 64 + i] & 0xf) |
                                                     ((codes[pair * 64 + 32 + i] & 0xf) << 4));
    }
  }
}

constexpr int kSixLow = -32;
constexpr int kSixHigh = 31;

// Weighted error of a group of 16 under `scale`, elements weighing their square.
float symmetric_error(const float* values, float scale) {
  const float inverse = scale != 0 ? 1.0F / scale : 0.0F;
  float error = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    const float difference =
        scale * static_cast<float>(nearest_in(values[i] * inverse, kSixLow, kSixHigh)) - values[i];
    error += values[i] * values[i] * difference * difference;
  }
  return error;
}

// value = scale * code: the scale that leaves the least weighted error among fits to trial codes.
float best_symmetric(const float* values) {
  const float extreme = *std::max_element(
      values, values + 16, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
  if (std::fabs(extreme) < 1e-15F) return 0;
  float best = 0;
  float most = 0;
  for (int trial = -9; trial <= 9; ++trial) {
    const float inverse =
        (static_cast<float>(kSixLow) - 0.1F * static_cast<float>(trial)) / extreme;
    float wlx = 0;
    float wll = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      const auto code = static_cast<float>(nearest_in(inverse * values[i], kSixLow, kSixHigh));
      const float weight = values[i] * values[i];
      wlx += weight * values[i] * code;
      wll += weight * code * code;
    }
    if (wll > 0 && wlx * wlx > most * wll) {  // what the fit takes away from the error
      most = wlx * wlx / wll;
      best = wlx / wll;
    }
  }
  return best;
}

int best_signed_scale(const float* values, float wanted, float d) {
  const int middle = d != 0 ? nearest_in(wanted / d, -128, 127) : 0;
  int best = middle;
  float least = std::numeric_limits<float>::infinity();
  for (int scale = std::max(-128, middle - 1); scale <= std::min(127, middle + 1); ++scale) {
    const float error = symmetric_error(values, d * static_cast<float>(scale));
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

}  // namespace

void encode_q4_k(const float* values, std::uint8_t* out) {
  std::array<std::uint8_t, 256> codes{};
  encode_affine(values, 15, 1.0F, codes.data(), out);
  pack_group_nibbles(codes.data(), out + 16);
}

void encode_q5_k(const float* values, std::uint8_t* out) {
  std::array<std::uint8_t, 256> codes{};
  encode_affine(values, 31, 0.5F, codes.data(), out);
  for (std::size_t i = 0; i < 32; ++i) {
    unsigned bits = 0;
    for (std::size_t group = 0; group < 8; ++group)
      bits |= static_cast<unsigned>(codes[group * 32 + i] >> 4) << group;
    out[16 + i] = static_cast<std::uint8_t>(bits);
  }
  pack_group_nibbles(codes.data(), out + 48);
}

void encode_q6_k(const float* values, std::uint8_t* out) {
  std::array<float, 16> wanted{};
  float extreme = 0;
  for (std::size_t group = 0; group < 16; ++group) {
    wanted[group] = best_symmetric(values + group * 16);
    if (std::fabs(wanted[group]) > std::fabs(extreme)) extreme = wanted[group];
  }
  std::memset(out, 0, 210);
  const float d = through_half(extreme / -128, out + 208);
  for (std::size_t group = 0; group < 16; ++group) {
    const float* x = values + group * 16;
    const int scale = best_signed_scale(x, wanted[group], d);
    out[192 + group] = static_cast<std::uint8_t>(static_cast<std::int8_t>(scale));
    const float step = d * static_cast<float>(scale);
    const float inverse = step != 0 ? 1.0F / step : 0.0F;
    for (std::size_t i = 0; i < 16; ++i) {
      const auto code =
          static_cast<unsigned>(nearest_in(x[i] * inverse, kSixLow, kSixHigh) - kSixLow);
      const std::size_t j = (group * 16 + i) % 128;
      const std::size_t half = group / 8;
      out[half * 64 + j % 64] =
          static_cast<std::uint8_t>(out[half * 64 + j % 64] | ((code & 0xfU) << (j / 64 * 4)));
      const std::size_t high = 128 + half * 32 + j % 32;
      out[high] = static_cast<std::uint8_t>(out[high] | ((code >> 4) << (j / 32 * 2)));
    }
  }
}

}  // namespace plumb
