// Products from codes of 16 bits: each code is the nearest, sums are exact at the limits too, the products are what codes and scales
// mean, near float32, the same bits for every number of tokens, and not finite where an operand is not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include "core/float_bits.h"
#include "cpu/isa.h"
#include "cpu/kernels/kernels.h"

namespace plumb::cpu {
namespace {

constexpr std::size_t kTokens = 25;
constexpr std::size_t kRows = kPanelRows;
constexpr std::size_t kUsualRow = 9;    // from here on, nothing special
constexpr std::size_t kUsualToken = 7;
constexpr float kLeast = 1e-30F;        // a block whose largest is smaller counts as zeros

std::vector<const Kernels*> tables() {
  std::vector<const Kernels*> found;
  for (const Isa isa : available_isas()) {
    if (kernels_for(isa).multiply_int16 != nullptr) found.push_back(&kernels_for(isa));
  }
  return found;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double norm = 0;
  double difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    norm += b[i] * b[i];
    difference += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return std::sqrt(difference / norm);
}

// Whether weights are halves (else bfloat16), and how many columns they have.
class Int16 : public testing::TestWithParam<std::tuple<bool, std::size_t>> {
 protected:
  Int16() : half_(std::get<0>(GetParam())), n_(std::get<1>(GetParam())), w_(draw(kRows)), x_(draw(kTokens)) {
    for (std::size_t k = 0; k < n_; ++k) {
      w_[3 * n_ + k] = 0;
      w_[4 * n_ + k] = 1;                           // codes of the same size
      w_[5 * n_ + k] = k % 200 == 7 ? 1 : 0;        // one code, and a large one
      w_[6 * n_ + k] *= half_ ? 1e-6F : 1e-36F;     // halves below the normal ones; what counts as 0
      w_[7 * n_ + k] *= half_ ? 1e4F : 1e30F;
    }
    for (std::size_t k = 0; k < n_; k += kInt16Block) {  // codes nearly as long as they can be
      const auto block = std::span(w_).subspan(8 * n_ + k, std::min<std::size_t>(kInt16Block, n_ - k));
      const float length = std::sqrt(std::inner_product(block.begin(), block.end(), block.begin(), 0.0F));
      for (float& value : block)
        value *= 0.997F * 32750 / 32768 / length;
    }
    for (float& value : w_) {
      bits_.push_back(half_ ? float_to_half(value) : float_to_bfloat16(value));
      value = half_ ? half_to_float(bits_.back()) : bfloat16_to_float(bits_.back());
    }
    for (std::size_t k = 0; k < n_; ++k) {
      x_[1 * n_ + k] = 0;
      x_[2 * n_ + k] = w_[8 * n_ + k];              // the largest sum that two rows of their lengths have
      x_[3 * n_ + k] = -1;
      x_[4 * n_ + k] *= k % 100 == 3 ? 1000.0F : 1.0F;
      x_[5 * n_ + k] = k % 200 == 7 ? -1 : 0;
      x_[6 * n_ + k] *= 1e-35F;
    }
  }

  std::vector<float> draw(std::size_t rows) {
    std::normal_distribution<float> normal;
    std::vector<float> values(rows * n_);
    for (float& value : values)
      value = normal(random_);
    return values;
  }

  void prepare(const Kernels& kernels) {
    const PanelForm form = half_ ? PanelForm::kInt16OfF16 : PanelForm::kInt16OfBF16;
    const auto columns = static_cast<std::int64_t>(n_);
    const std::uint8_t* rows[kRows];
    for (std::size_t r = 0; r < kRows; ++r)
      rows[r] = reinterpret_cast<const std::uint8_t*>(bits_.data() + r * n_);
    data_.assign(panel_bytes(form, columns), 0xee);
    kernels.pack(form, rows, columns, data_.data());
    panel_ = {form, data_.data(), columns};
    stride_ = ((n_ + kInt16Block - 1) / kInt16Block | 1U) * kInt16Block;
    codes_.assign(kTokens * stride_, 0);
    scales_.assign(codes_.size() / kInt16Block, 0);
    for (std::size_t t = 0; t < kTokens; ++t)
      kernels.quantise_int16(x_.data() + t * n_, columns, rows_from(0), static_cast<std::int64_t>(t));
  }

  Int16Rows rows_from(std::size_t token) {
    return {codes_.data() + token * stride_, scales_.data() + token * stride_ / kInt16Block, static_cast<std::int64_t>(stride_)};
  }

  std::vector<float> products(const Kernels& kernels, std::size_t together = kTokens) {
    std::vector<float> y(kTokens * kRows);
    for (std::size_t t = 0; t < kTokens; t += together)
      kernels.multiply_int16(panel_, rows_from(t), static_cast<std::int64_t>(together), {.to = y.data() + t * kRows});
    return y;
  }

  // Into rows that are not 32 floats apart.
  std::vector<float> products_apart(const Kernels& kernels) {
    constexpr std::size_t kStride = kRows + 5;
    std::vector<float> to(kTokens * kStride);
    std::vector<float> held(kTokens * kRows);
    kernels.multiply_int16(panel_, rows_from(0), kTokens, {.to = to.data(), .stride = kStride, .held = held.data()});
    std::vector<float> y;
    for (std::size_t t = 0; t < kTokens; ++t)
      y.insert(y.end(), to.data() + t * kStride, to.data() + t * kStride + kRows);
    return y;
  }

  float weight_scale(std::size_t row, std::size_t column) const {
    float scale = 0;
    std::memcpy(&scale, unit(column) + row * 4, 4);
    return scale;
  }
  std::int16_t weight_code(std::size_t row, std::size_t column) const {
    const std::size_t k = column % kInt16Block;
    std::int16_t code = 0;
    std::memcpy(&code, unit(column) + kRows * 4 + (k / 2 * kRows + row) * 4 + k % 2 * 2, 2);
    return code;
  }
  float scale(std::size_t token, std::size_t column) const { return scales_[(token * stride_ + column) / kInt16Block]; }
  std::int16_t code(std::size_t token, std::size_t column) const { return codes_[token * stride_ + column]; }
  const std::uint8_t* unit(std::size_t column) const {
    return data_.data() + column / kInt16Block * (kRows * 4 + kInt16Block / 2 * kRows * 4);
  }

  // What codes and scales mean; each block's whole sum is checked.
  double meant(std::size_t token, std::size_t row) const {
    double sum = 0;
    for (std::size_t k = 0; k < n_; k += kInt16Block) {
      std::int64_t whole = 0;
      for (std::size_t c = k; c < std::min<std::size_t>(n_, k + kInt16Block); ++c)
        whole += std::int64_t{weight_code(row, c)} * code(token, c);
      EXPECT_LT(std::abs(whole), std::int64_t{1} << 31) << "token " << token << ", row " << row;
      sum += static_cast<double>(whole) * weight_scale(row, k) * scale(token, k);
    }
    return sum;
  }
  double exact(std::size_t token, std::size_t row) const {
    double sum = 0;
    for (std::size_t k = 0; k < n_; ++k)
      sum += static_cast<double>(w_[row * n_ + k]) * x_[token * n_ + k];
    return sum;
  }

  bool half_;
  std::size_t n_;
  std::mt19937 random_{5};
  std::vector<float> w_;             // [kRows][n]
  std::vector<float> x_;             // [kTokens][n]
  std::vector<std::uint16_t> bits_;  // w as it is stored
  std::vector<std::uint8_t> data_;
  Panel panel_ = {};
  std::size_t stride_ = 0;
  std::vector<std::int16_t> codes_;
  std::vector<float> scales_;
};

TEST_P(Int16, EachCodeIsTheNearestAndTheLengthIsUsed) {
  for (const Kernels* kernels : tables()) {
    prepare(*kernels);
    for (std::size_t k = 0; k < n_; ++k) {
      for (std::size_t r = 0; r < kRows; ++r) {
        const float step = weight_scale(r, k);
        int exponent = 0;
        EXPECT_TRUE(step == 0 || std::frexp(step, &exponent) == 0.5F) << "a weight's scale is no power of two";
        EXPECT_LE(std::fabs(static_cast<float>(weight_code(r, k)) * step - w_[r * n_ + k]), std::max(step * 0.5F, kLeast));
      }
      for (std::size_t t = 0; t < kTokens; ++t)
        EXPECT_LE(std::fabs(static_cast<float>(code(t, k)) * scale(t, k) - x_[t * n_ + k]), std::max(scale(t, k) * 0.502F, kLeast));
    }
    for (std::size_t t = kUsualToken; t < kTokens; ++t) {
      double squares = 0;
      double largest = 0;
      for (std::size_t k = 0; k < std::min<std::size_t>(n_, kInt16Block); ++k) {
        squares += static_cast<double>(code(t, k)) * code(t, k);
        largest = std::max<double>(largest, std::abs(code(t, k)));
      }
      EXPECT_TRUE(std::sqrt(squares) > 65400 || largest > 32760) << "token " << t << ": " << std::sqrt(squares) << ", " << largest;
    }
  }
}

TEST_P(Int16, ProductsAreWhatCodesMeanAndNearFloat32) {
  for (const Kernels* kernels : tables()) {
    prepare(*kernels);
    const std::vector<float> y = products(*kernels);
    std::vector<double> usual[2];
    for (std::size_t t = 0; t < kTokens; ++t) {
      for (std::size_t r = 0; r < kRows; ++r) {
        const double expected = meant(t, r);
        double size = 0;  // that of the blocks that are added
        for (std::size_t k = 0; k < n_; ++k)
          size += std::fabs(static_cast<double>(w_[r * n_ + k]) * x_[t * n_ + k]);
        EXPECT_NEAR(y[t * kRows + r], expected, 1e-6 * size + 1e-30) << kernels->name << ", token " << t << ", row " << r;
        if (t < kUsualToken || r < kUsualRow) continue;
        usual[0].push_back(y[t * kRows + r]);
        usual[1].push_back(exact(t, r));
      }
    }
    // Half a step of 1 / 65500 of the length of 128, and of a weight's bits those below 1 / 16375 to 1 / 32750 of it.
    EXPECT_LT(distance(usual[0], usual[1]), half_ ? 1.5e-4 : 1e-4) << kernels->name;
  }
}

TEST_P(Int16, TokensChangeNoBit) {
  for (const Kernels* kernels : tables()) {
    prepare(*kernels);
    const std::vector<float> whole = products(*kernels);
    EXPECT_EQ(products(*kernels, 1), whole) << kernels->name;
    EXPECT_EQ(products(*kernels, 5), whole) << kernels->name;
    EXPECT_EQ(products_apart(*kernels), whole) << kernels->name;
  }
}

TEST_P(Int16, WhatIsNotFiniteStaysSoAndWhereItIs) {
  constexpr std::size_t kRow = 10;
  constexpr std::size_t kToken = 8;
  const std::uint16_t infinity = half_ ? 0x7c00U : 0x7f80U;
  for (const Kernels* kernels : tables()) {
    for (const bool none : {false, true}) {
      const auto x = x_;
      const auto bits = bits_;
      prepare(*kernels);
      const std::vector<float> clean = products(*kernels);
      bits_[kRow * n_ + n_ - 1] = static_cast<std::uint16_t>(infinity | (none ? 1U : 0x8000U));
      x_[kToken * n_ + n_ / 2] = none ? std::numeric_limits<float>::quiet_NaN() : -std::numeric_limits<float>::infinity();
      prepare(*kernels);
      const std::vector<float> y = products(*kernels);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const bool here = i / kRows == kToken || i % kRows == kRow;
        EXPECT_TRUE(here ? !std::isfinite(y[i]) : y[i] == clean[i]) << kernels->name << ", token " << i / kRows << ", row " << i % kRows;
      }
      x_ = x;
      bits_ = bits;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Int16, testing::Combine(testing::Bool(), testing::Values<std::size_t>(1, 7, 128, 129, 300, 514)), [](const auto& entry) {
  return (std::get<0>(entry.param) ? "F16_" : "BF16_") + std::to_string(std::get<1>(entry.param));
});

}  // namespace
}  // namespace plumb::cpu
