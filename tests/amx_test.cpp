// Products by AMX's tiles: those of bytes are the bits of the instruction set below, those of bfloat16 a float32 product's
// within its rounding, whatever the number of tokens; and a whole network on them. Where the processor has no AMX its
// instructions are emulated (amx_emulator.h).
#if defined(__x86_64__)
#include "amx_emulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "cpu/executor.h"
#include "cpu/isa.h"
#include "cpu/kernels/kernels.h"
#include "golden.h"

namespace plumb {
namespace {

using cpu::Activations;
using cpu::Int8Rows;
using cpu::Isa;
using cpu::kActivationGroup;
using cpu::kChunk;
using cpu::kPanelRows;
using cpu::Panel;
using cpu::PanelForm;

class Amx : public testing::Test {
 protected:
  void SetUp() override {
    const auto has = cpu::available_isas();
    if (std::find(has.begin(), has.end(), Isa::kAvx512Bf16) == has.end())
      GTEST_SKIP() << "not run: the kernels beside the tiles need AVX512_BF16, which this processor lacks";
    native_ = has.back() == Isa::kAmx;
    if (!native_) amx_emulator::install();
    before_ = amx_emulator::instructions;
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_TRUE(native_ || amx_emulator::instructions > before_) << "no tile was used";
  }

  const cpu::Kernels& tiles_ = cpu::kernels_for(Isa::kAmx);
  const cpu::Kernels& below_ = cpu::kernels_for(Isa::kAvx512Bf16);
  std::mt19937 random_{3};

  std::vector<float> floats(std::int64_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<std::size_t>(n));
    std::generate(values.begin(), values.end(), [&] { return normal(random_); });
    return values;
  }

 private:
  bool native_ = false;
  std::int64_t before_ = 0;
};

struct Form {
  PanelForm form;
  const char* name;
  std::int64_t columns;  // of a unit
  std::size_t bytes;
  std::size_t halves;  // at its start
  std::size_t bytes_of_scales = 0;  // likewise
  std::size_t behind = 0;  // floats behind the last unit
};

const Form kForms[] = {{PanelForm::kQ8_0, "Q8_0", 32, 1088, 32},   {PanelForm::kQ4_0, "Q4_0", 32, 576, 32},
                       {PanelForm::kQ5_0, "Q5_0", 32, 704, 32},    {PanelForm::kQ5_1, "Q5_1", 32, 768, 64},
                       {PanelForm::kQ4_1, "Q4_1", 32, 640, 64},    {PanelForm::kQ4_K, "Q4_K", 256, 4736, 64},
                       {PanelForm::kQ5_K, "Q5_K", 256, 5760, 64}, {PanelForm::kQ6_K, "Q6_K", 256, 6720, 32},
                       {PanelForm::kMXFP4, "MXFP4", 32, 544, 0, 32},  {PanelForm::kNVFP4, "NVFP4", 32, 576, 0, 64, 32},
                       {PanelForm::kIQ4_NL, "IQ4_NL", 32, 576, 32}, {PanelForm::kIQ4_XS, "IQ4_XS", 256, 4416, 32},
                       {PanelForm::kQ2_K, "Q2_K", 256, 2688, 64},   {PanelForm::kQ3_K, "Q3_K", 256, 3648, 32},
                       {PanelForm::kTQ2_0, "TQ2_0", 256, 2112, 32}};

TEST_F(Amx, BytesAreTheBitsOfTheInstructionSetBelow) {
  constexpr std::int64_t kMost = 53;
  for (const Form& form : kForms) {
    for (const std::int64_t units : {std::int64_t{1}, std::int64_t{3}, 544 / form.columns}) {
      const std::int64_t columns = units * form.columns;
      std::vector<std::uint8_t> data(form.bytes * static_cast<std::size_t>(units) + form.behind * 4);
      std::generate(data.begin(), data.end(), [&] { return static_cast<std::uint8_t>(random_()); });
      for (std::size_t u = 0; u < static_cast<std::size_t>(units); ++u) {
        for (std::size_t i = 0; i < form.halves; ++i) {  // finite
          const auto half = static_cast<std::uint16_t>(0x2800U + random_() % 0x1800U);
          std::memcpy(data.data() + u * form.bytes + i * 2, &half, 2);
        }
        for (std::size_t i = 0; i < form.bytes_of_scales; ++i)
          data[u * form.bytes + i] = static_cast<std::uint8_t>(112 + random_() % 32);
      }
      const auto factors = floats(static_cast<std::int64_t>(form.behind));
      if (form.behind > 0) std::memcpy(data.data() + data.size() - form.behind * 4, factors.data(), form.behind * 4);
      const Panel panel = {form.form, data.data(), columns};
      const std::int64_t stride = (columns + kChunk - 1) / kChunk * kChunk;
      std::vector<std::int8_t> codes(static_cast<std::size_t>(kMost * stride));
      std::vector<float> scales(codes.size() / kActivationGroup);
      std::vector<std::int32_t> sums(codes.size() / 16);
      const Int8Rows x = {codes.data(), scales.data(), sums.data(), stride};
      const auto values = floats(kMost * columns);
      for (std::int64_t t = 0; t < kMost; ++t)
        below_.quantise(values.data() + t * columns, columns, x, t);
      std::vector<float> expected(kMost * kPanelRows);
      below_.multiply_int8(panel, x, kMost, {.to = expected.data()});
      for (const std::int64_t tokens : {std::int64_t{1}, std::int64_t{15}, std::int64_t{16}, std::int64_t{17}, std::int64_t{32}, kMost}) {
        std::vector<float> y(static_cast<std::size_t>(tokens * kPanelRows), -1.0F);
        tiles_.multiply_int8(panel, x, tokens, {.to = y.data()});
        const std::int64_t apart = kPanelRows + 3;
        std::vector<float> rows(static_cast<std::size_t>(tokens * apart));
        std::vector<float> held(y.size());
        tiles_.multiply_int8(panel, x, tokens, {.to = rows.data(), .stride = apart, .held = held.data()});
        for (std::int64_t t = 0; t < tokens; ++t)
          EXPECT_EQ(std::memcmp(rows.data() + t * apart, y.data() + t * kPanelRows, kPanelRows * sizeof(float)), 0) << form.name << ", rows apart";
        EXPECT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0)
            << form.name << ", " << columns << " columns, " << tokens << " tokens";
      }
    }
  }
}

double distance(const std::vector<float>& a, const std::vector<double>& b) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(error / norm);
}

TEST_F(Amx, Bfloat16InThreeTermsIsFloat32InOneIsRounded) {
  constexpr std::int64_t kTokens = 45;
  for (const std::int64_t columns : {1, 7, 32, 33, 300, 513}) {
    const std::int64_t pairs = (columns + 1) / 2;
    // The panel alone: what reads past its end reads past the vector's.
    std::vector<std::uint16_t> data(static_cast<std::size_t>(pairs * 2 * kPanelRows));
    std::vector<double> weight(static_cast<std::size_t>(columns * kPanelRows));
    for (std::int64_t k = 0; k < columns; ++k) {
      for (std::int64_t r = 0; r < kPanelRows; ++r) {
        std::uint32_t bits = 0;
        const float value = floats(1)[0];
        std::memcpy(&bits, &value, 4);
        bits &= 0xffff0000U;
        data[static_cast<std::size_t>((k / 2 * kPanelRows + r) * 2 + k % 2)] = static_cast<std::uint16_t>(bits >> 16);
        float stored = 0;
        std::memcpy(&stored, &bits, 4);
        weight[static_cast<std::size_t>(k * kPanelRows + r)] = stored;
      }
    }
    const Panel panel = {PanelForm::kBF16, reinterpret_cast<const std::uint8_t*>(data.data()), columns};
    const std::int64_t stride = (columns + kChunk - 1) / kChunk * kChunk;
    const auto x = floats(kTokens * columns);
    std::vector<double> expected(static_cast<std::size_t>(kTokens * kPanelRows));
    for (std::int64_t t = 0; t < kTokens; ++t) {
      for (std::int64_t k = 0; k < columns; ++k) {
        for (std::int64_t r = 0; r < kPanelRows; ++r)
          expected[static_cast<std::size_t>(t * kPanelRows + r)] +=
              weight[static_cast<std::size_t>(k * kPanelRows + r)] * x[static_cast<std::size_t>(t * columns + k)];
      }
    }
    std::vector<std::uint16_t> terms(static_cast<std::size_t>(kTokens * 3 * stride));
    std::vector<std::uint16_t> rounded(static_cast<std::size_t>(kTokens * stride));
    for (std::int64_t t = 0; t < kTokens; ++t) {
      tiles_.split(x.data() + t * columns, columns, stride, terms.data() + t * 3 * stride);
      tiles_.to_bf16(x.data() + t * columns, columns, stride, rounded.data() + t * stride);
    }
    std::vector<float> y(static_cast<std::size_t>(kTokens * kPanelRows));
    tiles_.multiply_split(panel, terms.data(), 3 * stride, kTokens, y.data());
    EXPECT_LE(distance(y, expected), 4e-7) << columns << " columns, three terms";
    std::vector<float> z(y.size());
    tiles_.multiply_bf16(panel, rounded.data(), stride, kTokens, z.data());
    EXPECT_LE(distance(z, expected), 4e-3) << columns << " columns, one term";
    EXPECT_GE(distance(z, expected), 1e-4) << columns << " columns, one term";
    for (const std::int64_t tokens : {1, 5, 16, 17, 32}) {
      std::vector<float> part(static_cast<std::size_t>(tokens * kPanelRows));
      const std::int64_t first = kTokens - tokens;
      tiles_.multiply_split(panel, terms.data() + first * 3 * stride, 3 * stride, tokens, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), y.begin() + first * kPanelRows)) << columns << " columns, " << tokens << " tokens";
      tiles_.multiply_bf16(panel, rounded.data() + first * stride, stride, tokens, part.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), z.begin() + first * kPanelRows)) << columns << " columns, " << tokens << " tokens";
    }
  }
}

// A prompt of more than one tile's rows, whole and in parts.
TEST_F(Amx, NetworksAreThoseOfTheInstructionSetBelow) {
  constexpr double kTolerance = 2e-5;  // of two float32 engines
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 37; ++i)
    ids.push_back((i * 37 + 11) % 60);
  // Weights of bfloat16 are multiplied by tiles as exactly as in float32, below as codes of 16 bits unless that is refused.
  for (const auto& [name, activations] : {std::pair<std::string, Activations>("checkpoints/olmoe", Activations::kExact),
                                          std::pair<std::string, Activations>("gguf/llama-gguf-q4_0/model.gguf", Activations::kAuto)}) {
    const auto model = Model::load(golden::data_folder() / name, {});
    ASSERT_TRUE(model.ok()) << model.error().message;
    const auto logits = [&, activations = activations](Isa isa, std::int64_t chunk) {
      const auto executor = cpu::make_cpu_executor(
          model.value().network, {.isa = isa, .activations = activations, .threads = 2, .cache = cpu::CacheType::kF32});
      const auto sequence = executor->start();
      auto result = executor->forward(*sequence, ids, {.rows = LogitRows::kAll, .chunk = chunk, .observer = nullptr, .progress = {}});
      EXPECT_TRUE(result.ok()) << result.error().message;
      return std::move(result).value();
    };
    const Tensor whole = logits(Isa::kAmx, 0);
    EXPECT_LE(golden::distance(whole, logits(Isa::kAvx512Bf16, 0)), kTolerance) << name;
    EXPECT_EQ(logits(Isa::kAmx, 11).data, whole.data) << name;
  }
}

}  // namespace
}  // namespace plumb
#endif
