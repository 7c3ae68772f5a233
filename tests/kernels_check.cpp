// Every kernel of every table that this machine runs against the portable one, on odd shapes, and each against itself with the
// tokens cut up. A program of its own without a library, so that tools/neon-check can build it for another processor.
// Prints a line for each finding; the exit status is 1 if there was one.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "cpu/kernels/kernels.h"

namespace plumb::cpu {
namespace {

int checks = 0;
int findings = 0;
std::mt19937 random_bits{5};

void expect(bool good, const char* table, const std::string& what) {
  ++checks;
  if (good) return;
  ++findings;
  std::printf("%s: %s\n", table, what.c_str());
}

std::vector<float> floats(std::int64_t n) {
  std::normal_distribution<float> draw;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x)
    value = draw(random_bits);
  return x;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double norm = 0;
  double difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    norm += static_cast<double>(b[i]) * b[i];
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  }
  return std::sqrt(difference / norm);
}

struct Form {
  PanelForm form;
  const char* name;
  std::int64_t columns;      // of a unit
  std::size_t bytes;
  std::size_t halves;        // at the unit's start, that must be finite
  bool floats = false;       // whose other bytes are floats of this width
  int width = 0;
  std::size_t bytes_of_scales = 0;  // at the unit's start, each from `least` on below `least` + 32
  std::uint8_t least = 0;
};

const Form kForms[] = {
    {PanelForm::kF32, "F32", 1, 128, 0, true, 4},   {PanelForm::kF16, "F16", 1, 64, 32, false, 0},
    {PanelForm::kBF16, "BF16", 2, 128, 0, true, 2}, {PanelForm::kQ8_0, "Q8_0", 32, 1088, 32, false, 0},
    {PanelForm::kQ4_0, "Q4_0", 32, 576, 32, false, 0}, {PanelForm::kQ4_K, "Q4_K", 256, 4736, 64, false, 0},
    {PanelForm::kQ6_K, "Q6_K", 256, 6720, 32, false, 0},
    {PanelForm::kQ4_1, "Q4_1", 32, 640, 64, false, 0}, {PanelForm::kQ5_K, "Q5_K", 256, 5760, 64, false, 0},
    {PanelForm::kQ5_0, "Q5_0", 32, 704, 32, false, 0}, {PanelForm::kQ5_1, "Q5_1", 32, 768, 64, false, 0},
    {PanelForm::kMXFP4, "MXFP4", 32, 544, 0, false, 0, 32, 112}, {PanelForm::kNVFP4, "NVFP4", 32, 576, 0, false, 0, 64, 100},
    {PanelForm::kIQ4_NL, "IQ4_NL", 32, 576, 32, false, 0}, {PanelForm::kIQ4_XS, "IQ4_XS", 256, 4416, 32, false, 0},
    {PanelForm::kQ2_K, "Q2_K", 256, 2688, 64, false, 0}, {PanelForm::kQ3_K, "Q3_K", 256, 3648, 32, false, 0},
    {PanelForm::kTQ2_0, "TQ2_0", 256, 2112, 32, false, 0}, {PanelForm::kFP8, "FP8", 128, 4224, 64, false, 0},
    {PanelForm::kIntegers, "integers", 32, 1280, 128, false, 0}, {PanelForm::kOffsetIntegers, "integers with offsets", 32, 1536, 256, false, 0},
};

// Bytes at random, or all `byte`; scales at random.
std::vector<std::uint8_t> panel_of(const Form& form, std::int64_t units, std::optional<std::uint8_t> all = std::nullopt) {
  // What reads ahead stays inside.
  std::vector<std::uint8_t> data(form.bytes * static_cast<std::size_t>(units) + 8192);
  for (std::uint8_t& byte : data)
    byte = all.value_or(static_cast<std::uint8_t>(random_bits()));
  for (std::size_t u = 0; u < static_cast<std::size_t>(units); ++u) {
    std::uint8_t* unit = data.data() + u * form.bytes;
    for (std::size_t i = 0; i < form.halves; ++i) {  // between 1/32 and 2
      const auto half = static_cast<std::uint16_t>(0x2800U + random_bits() % 0x1800U);
      std::memcpy(unit + i * 2, &half, 2);
    }
    for (std::size_t i = 0; i < form.bytes_of_scales; ++i)
      unit[i] = static_cast<std::uint8_t>(form.least + random_bits() % 32);
    for (std::size_t i = 0; form.floats && i < form.bytes; i += static_cast<std::size_t>(form.width)) {
      const float value = floats(1)[0];
      std::memcpy(unit + i, reinterpret_cast<const std::uint8_t*>(&value) + 4 - form.width, static_cast<std::size_t>(form.width));
    }
  }
  if (form.form == PanelForm::kNVFP4) {  // its rows' factors
    const auto factors = floats(kPanelRows);
    std::memcpy(data.data() + form.bytes * static_cast<std::size_t>(units), factors.data(), kPanelRows * 4);
  }
  return data;
}

struct Quantised {
  std::vector<std::int8_t> codes;
  std::vector<float> scales;
  std::vector<std::int32_t> sums;
  std::int64_t stride;

  Int8Rows rows(std::int64_t token) {
    return {codes.data() + token * stride, scales.data() + token * stride / kActivationGroup,
            sums.data() + token * stride / 16, stride};
  }
};

Quantised quantised(const Kernels& kernels, const std::vector<float>& x, std::int64_t columns) {
  const auto tokens = static_cast<std::int64_t>(x.size()) / columns;
  Quantised to;
  to.stride = (columns + kChunk - 1) / kChunk * kChunk;
  to.codes.resize(static_cast<std::size_t>(tokens * to.stride));
  to.scales.resize(to.codes.size() / kActivationGroup);
  to.sums.resize(to.codes.size() / 16);
  for (std::int64_t t = 0; t < tokens; ++t)
    kernels.quantise(x.data() + t * columns, columns, to.rows(0), t);
  return to;
}

// What `multiply` writes into rows that are not 32 floats apart, which must leave what lies between them.
template <class Multiply>
std::vector<float> rows_apart(const Multiply& multiply, std::int64_t tokens) {
  constexpr std::int64_t kStride = kPanelRows + 5;
  std::vector<float> held(static_cast<std::size_t>(tokens * kPanelRows));
  std::vector<float> to(static_cast<std::size_t>(tokens * kStride), -7.0F);
  multiply({.to = to.data(), .stride = kStride, .held = held.data()});
  std::vector<float> rows;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto row = to.begin() + t * kStride;
    rows.insert(rows.end(), row, row + kPanelRows);
    if (std::any_of(row + kPanelRows, row + kStride, [](float x) { return x != -7.0F; })) rows.clear();
  }
  return rows;
}

// x [tokens][columns]; in any number of tokens at a time the products are the same.
void check_int8(const Kernels& own, const Kernels& plain, const Panel& panel, const std::vector<float>& x, const std::string& what) {
  const std::int64_t tokens = std::ssize(x) / panel.columns;
  std::vector<float> a(static_cast<std::size_t>(tokens * kPanelRows));
  std::vector<float> b(a.size());
  std::vector<float> c(a.size());
  Quantised codes = quantised(plain, x, panel.columns);
  own.multiply_int8(panel, codes.rows(0), tokens, {.to = a.data()});
  plain.multiply_int8(panel, codes.rows(0), tokens, {.to = b.data()});
  expect(a == b || distance(a, b) < 1e-6, own.name, what + ": int8 products");
  for (const std::int64_t together : {1, 2, 3, 4, 5, 8}) {  // kernels for few tokens differ from those for many
    for (std::int64_t t = 0; t < tokens; t += together)
      own.multiply_int8(panel, codes.rows(t), std::min(together, tokens - t), {.to = c.data() + t * kPanelRows});
    expect(a == c, own.name, what + ": int8 products, " + std::to_string(together) + " tokens at a time");
  }
  expect(a == rows_apart([&](const ProductRows& to) { own.multiply_int8(panel, codes.rows(0), tokens, to); }, tokens), own.name,
         what + ": int8 products, rows apart");
}

// The largest and the least codes with activations of the largest: no partial sum may leave the bits that hold it.
void check_largest(const Kernels& own, const Kernels& plain) {
  constexpr std::int64_t kTokens = 9;
  for (const Form& form : kForms) {
    if (form.form < PanelForm::kQ8_0 || form.form == PanelForm::kFP8) continue;
    const std::int64_t units = 256 / form.columns;
    std::vector<float> x(static_cast<std::size_t>(kTokens * 256));
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = i / 256 % 3 == 0 || (i / 256 % 3 == 1 && i / 2 % 2 == 0) ? 1.0F : -1.0F;
    for (const std::uint8_t byte : std::initializer_list<std::uint8_t>{0x00, 0x77, 0x7f, 0xff}) {
      const auto data = panel_of(form, units, byte);
      check_int8(own, plain, {form.form, data.data(), 256}, x, std::string(form.name) + ", all bytes " + std::to_string(byte));
    }
  }
}

void check_products(const Kernels& own, const Kernels& plain) {
  constexpr std::int64_t kTokens = 15;
  for (const Form& form : kForms) {
    for (const std::int64_t units : {std::int64_t{1}, std::int64_t{3}, 600 / form.columns + 1}) {
      const std::int64_t columns = units * form.columns;
      const std::string what = std::string(form.name) + ", " + std::to_string(columns) + " columns";
      const auto data = panel_of(form, units);
      const Panel panel = {form.form, data.data(), columns};
      const auto x = floats(kTokens * columns);
      const auto size = static_cast<std::size_t>(kTokens * kPanelRows);
      std::vector<float> a(size);
      std::vector<float> b(size);
      std::vector<float> c(size);
      own.multiply_float(panel, x.data(), columns, kTokens, a.data());
      plain.multiply_float(panel, x.data(), columns, kTokens, b.data());
      expect(distance(a, b) < 1e-6, own.name, what + ": float products");
      for (std::int64_t t = 0; t < kTokens; ++t)
        own.multiply_float(panel, x.data() + t * columns, columns, 1, c.data() + t * kPanelRows);
      expect(a == c, own.name, what + ": float products, token by token");
      if (form.form == PanelForm::kFP8) {  // the row's end is no whole unit
        const Panel part = {form.form, data.data(), columns - 37};
        own.multiply_float(part, x.data(), columns, kTokens, a.data());
        plain.multiply_float(part, x.data(), columns, kTokens, b.data());
        expect(distance(a, b) < 1e-6, own.name, what + " less 37: float products");
      }
      if (form.form < PanelForm::kQ8_0) continue;
      check_int8(own, plain, panel, x, what);
    }
  }
}

void check_quantise(const Kernels& own, const Kernels& plain) {
  // So many that some lie near the middle of two codes, where rounding the product first, or not, decides.
  constexpr std::int64_t kMany = std::int64_t{1} << 21;
  const auto many = floats(kMany);
  expect(quantised(own, many, kMany).codes == quantised(plain, many, kMany).codes, own.name, "codes");
  for (const std::int64_t columns : {1, 63, 64, 300}) {
    const auto x = floats(columns);
    Quantised q = quantised(own, x, columns);
    for (std::int64_t k = 0; k < columns; ++k) {
      const float scale = q.scales[static_cast<std::size_t>(k / kActivationGroup)];
      const float value = static_cast<float>(q.codes[static_cast<std::size_t>(k)]) * scale;
      expect(std::fabs(value - x[static_cast<std::size_t>(k)]) <= scale * 0.5001F, own.name, "a code is not the nearest");
    }
    for (std::size_t block = 0; block < q.sums.size(); ++block) {
      int sum = 0;
      for (std::size_t i = 0; i < 16; ++i)
        sum += q.codes[block * 16 + i];
      expect(sum == q.sums[block], own.name, "a sum of codes");
    }
  }
}

struct Attention {
  std::vector<float> out;
  std::vector<float> scores;
  std::vector<float> probabilities;
};

// What one channel of position 2 (of a query: of the first) is overwritten with, and where; or all that is.
struct Planted {
  enum class In : std::uint8_t { kNothing, kQuery, kKey, kValue, kEverywhere } in = In::kNothing;
  float value = 0;
};

// `vectors` queries of one head over `keys` keys, the last of which are the queries' own.
Attention attention(const Kernels& kernels, CacheType type, std::int64_t dim, std::int64_t vectors, std::int64_t first_vector,
                    std::int64_t end_vector, std::int64_t window, float cap, bool sinks, const Planted& planted = {}) {
  constexpr std::int64_t kKeys = 150;
  random_bits.seed(7);
  auto k = floats(kKeys * dim);
  auto v = floats(kKeys * dim);
  auto q = floats(vectors * dim);
  const auto channel = static_cast<std::size_t>(dim / 2);
  if (planted.in == Planted::In::kEverywhere) {
    for (auto* numbers : {&q, &k, &v})
      std::fill(numbers->begin(), numbers->end(), planted.value);
  }
  if (planted.in == Planted::In::kQuery) q[channel] = planted.value;
  if (planted.in == Planted::In::kKey) k[static_cast<std::size_t>(2 * dim) + channel] = planted.value;
  if (planted.in == Planted::In::kValue) v[static_cast<std::size_t>(2 * dim) + channel] = planted.value;
  const std::int64_t blocks = (kKeys + kKeyBlock - 1) / kKeyBlock;
  const auto bytes = static_cast<std::size_t>(cache_block_bytes(type, dim));
  std::vector<std::vector<std::uint8_t>> held(static_cast<std::size_t>(2 * blocks), std::vector<std::uint8_t>(bytes));
  std::vector<const std::uint8_t*> keys;
  std::vector<const std::uint8_t*> values;
  for (std::size_t b = 0; b < static_cast<std::size_t>(blocks); ++b) {
    keys.push_back(held[2 * b].data());
    values.push_back(held[2 * b + 1].data());
  }
  for (std::int64_t p = 0; p < kKeys; ++p) {
    const auto b = static_cast<std::size_t>(p / kKeyBlock);
    kernels.keep({type, k.data() + p * dim, dim, p % kKeyBlock, true, held[2 * b].data()});
    kernels.keep({type, v.data() + p * dim, dim, p % kKeyBlock, false, held[2 * b + 1].data()});
  }
  const std::int64_t count = end_vector - first_vector;
  Attention result;
  result.out.resize(static_cast<std::size_t>(count * dim));
  result.scores.resize(static_cast<std::size_t>(count * kKeys));
  result.probabilities.resize(result.scores.size());
  std::vector<const float*> queries;
  std::vector<float*> outputs;
  std::vector<float*> scores;
  std::vector<float*> probabilities;
  std::vector<std::int64_t> first;
  std::vector<std::int64_t> end;
  std::vector<float> sink;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t vector = first_vector + i;
    queries.push_back(q.data() + vector * dim);
    outputs.push_back(result.out.data() + i * dim);
    scores.push_back(result.scores.data() + i * kKeys);
    probabilities.push_back(result.probabilities.data() + i * kKeys);
    end.push_back(kKeys - vectors + 1 + vector);
    first.push_back(window > 0 && end.back() > window ? end.back() - window : 0);
    sink.push_back(static_cast<float>(vector % 3));
  }
  std::vector<float> scratch(static_cast<std::size_t>(attend_scratch(count, dim, dim)));
  (type == CacheType::kInt16 ? kernels.attend_int16 : kernels.attend)({type, queries.data(), outputs.data(), first.data(), end.data(), keys.data(), values.data(),
                  sinks ? sink.data() : nullptr, count, dim, dim, 0.3F, cap, scratch.data(), scores.data(),
                  probabilities.data()});
  return result;
}

// What is kept of one row is the same bytes: ties, what is subnormal in a half, and what rounds past the largest.
void check_kept(const Kernels& own, const Kernels& plain) {
  std::vector<float> x = {0.0F, -0.0F, 65504.0F, 65519.9F, 65520.0F, -65536.0F, 1e30F, 0x1p-14F, 0x1.ffcp-15F, 0x1.ffep-15F, 0x1p-24F, 0x1p-25F, 0x1.8p-25F,
                          -0x1.8p-24F, 0x1.002p0F, 0x1.006p0F, 0x1.01p0F, 0x1.03p0F, 0x1.002001p0F, 1e-38F};
  for (const float value : floats(44))
    x.push_back(value * 1e-3F);
  for (const CacheType type : {CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0}) {
    for (const bool by_channel : {true, false}) {
      const auto dim = std::ssize(x);
      std::vector<std::uint8_t> a(static_cast<std::size_t>(cache_block_bytes(type, dim)));
      std::vector<std::uint8_t> b(a.size());
      own.keep({type, x.data(), dim, 5, by_channel, a.data()});
      plain.keep({type, x.data(), dim, 5, by_channel, b.data()});
      expect(a == b, own.name, "what is kept, cache " + std::to_string(static_cast<int>(type)));
    }
  }
}

void check_attention(const Kernels& own, const Kernels& plain) {
  constexpr std::int64_t kVectors = 25;  // the first ends one before a block's last key, the next but one behind it
  for (const CacheType type : {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0}) {
    for (const std::int64_t dim : {8, 40, 128}) {
      for (const std::int64_t window : {0, 30, 72}) {  // the third begins on both sides of a block's first key
        const float cap = window > 0 ? 5.0F : 0.0F;
        const std::string what = "attention, cache " + std::to_string(static_cast<int>(type)) + ", " + std::to_string(dim) +
                                 " channels, window " + std::to_string(window);
        const Attention a = attention(own, type, dim, kVectors, 0, kVectors, window, cap, window > 0);
        const Attention b = attention(plain, type, dim, kVectors, 0, kVectors, window, cap, window > 0);
        expect(distance(a.out, b.out) < 2e-6, own.name, what);
        expect(distance(a.scores, b.scores) < 2e-6, own.name, what + ", scores");
        expect(distance(a.probabilities, b.probabilities) < 2e-6, own.name, what + ", probabilities");
        for (std::int64_t i = 0; i < kVectors; ++i) {
          const Attention alone = attention(own, type, dim, kVectors, i, i + 1, window, cap, window > 0);
          expect(std::memcmp(alone.out.data(), a.out.data() + i * dim, static_cast<std::size_t>(dim) * 4) == 0, own.name,
                 what + ": a query alone");
        }
        const Attention exact = attention(plain, CacheType::kF32, dim, kVectors, 0, kVectors, window, cap, window > 0);
        const double limits[] = {1e-6, 1e-3, 6e-3, 2e-2};
        expect(distance(a.out, exact.out) < limits[static_cast<int>(type)], own.name, what + ": far from float32");
      }
    }
  }
}

bool finite(const std::vector<float>& values, std::int64_t begin, std::int64_t end) {
  return std::all_of(values.begin() + begin, values.begin() + end, [](float value) { return std::isfinite(value); });
}

// What is no number, or an infinite value, is in the outputs of the queries that see it, and in no other. (An infinite key may make
// a score that hides it.)
void check_not_finite(const Kernels& own, CacheType type) {
  constexpr std::int64_t kVectors = 5;
  constexpr std::int64_t kDim = 40;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  using In = Planted::In;
  for (const In in : {In::kQuery, In::kKey, In::kValue}) {
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
      const std::string what = "attention of what is not finite, cache " + std::to_string(static_cast<int>(type)) + ", planted in " +
                               std::to_string(static_cast<int>(in)) + ", " + std::to_string(value);
      if (in != In::kValue && !std::isnan(value)) continue;
      const Attention clean = attention(own, type, kDim, kVectors, 0, kVectors, 0, 0, false);
      const Attention all = attention(own, type, kDim, kVectors, 0, kVectors, 0, 0, false, {in, value});
      for (std::int64_t i = 0; i < kVectors; ++i) {
        const bool sees = in != In::kQuery || i == 0;
        const bool same = std::memcmp(all.out.data() + i * kDim, clean.out.data() + i * kDim, static_cast<std::size_t>(kDim) * 4) == 0;
        expect(sees ? !finite(all.out, i * kDim, (i + 1) * kDim) : same, own.name, what);
      }
      // Position 2 lies far before every window.
      const Attention near = attention(own, type, kDim, kVectors, 0, kVectors, 30, 0, false, {in, value});
      expect(in == In::kQuery || finite(near.out, 0, kVectors * kDim), own.name, what + ", behind a window");
    }
  }
}

// Integers are not the portable float32's: their distance is what numerics.md says, and no query depends on its neighbours.
void check_int16_attention(const Kernels& own, const Kernels& plain) {
  if (own.attend_int16 == nullptr) return;
  constexpr std::int64_t kVectors = 45;  // more than meet a block together
  for (const std::int64_t dim : {1, 8, 40, 128, 200}) {
    for (const std::int64_t window : {0, 30, 72}) {
      const float cap = window > 0 ? 5.0F : 0.0F;
      const std::string what = "attention in integers, " + std::to_string(dim) + " channels, window " + std::to_string(window);
      const Attention a = attention(own, CacheType::kInt16, dim, kVectors, 0, kVectors, window, cap, window > 0);
      const Attention b = attention(plain, CacheType::kF32, dim, kVectors, 0, kVectors, window, cap, window > 0);
      expect(distance(a.scores, b.scores) < 1.5e-4, own.name, what + ", scores");
      expect(distance(a.out, b.out) < 4e-4, own.name, what);
      expect(distance(a.out, b.out) > 1e-6, own.name, what + ": not rounded");
      for (std::int64_t i = 0; i < kVectors; i += 4) {
        const Attention alone = attention(own, CacheType::kInt16, dim, kVectors, i, i + 1, window, cap, window > 0);
        expect(std::memcmp(alone.out.data(), a.out.data() + i * dim, static_cast<std::size_t>(dim) * 4) == 0, own.name,
               what + ": a query alone");
      }
    }
  }
  // The largest sums: all codes of queries, of keys and of values alike, and of one sign.
  for (const std::int64_t dim : {1, 2, 40, 128}) {
    for (const float value : {1.0F, -1.0F}) {
      const Attention a = attention(own, CacheType::kInt16, dim, kVectors, 0, kVectors, 0, 0, false, {Planted::In::kEverywhere, value});
      const bool near = std::all_of(a.out.begin(), a.out.end(), [value](float x) { return std::fabs(x - value) < 4e-4F; });
      expect(near, own.name, "attention in integers of one number, " + std::to_string(dim) + " channels");
      const double score = a.scores[0];
      const Attention b = attention(plain, CacheType::kF32, dim, kVectors, 0, kVectors, 0, 0, false, {Planted::In::kEverywhere, value});
      expect(std::fabs(score / b.scores[0] - 1) < 1.5e-4, own.name, "the largest score from integers, " + std::to_string(dim) + " channels");
    }
  }
}

void check_rows(const Kernels& own, const Kernels& plain) {
  for (const std::int64_t n : {1, 7, 16, 37, 200}) {
    const std::string what = ", " + std::to_string(n) + " elements";
    const auto x = floats(n);
    const auto w = floats(n);
    std::vector<float> a(x.size());
    std::vector<float> b(x.size());
    own.rms_norm(x.data(), w.data(), n, 1e-6F, 1, a.data());
    plain.rms_norm(x.data(), w.data(), n, 1e-6F, 1, b.data());
    expect(distance(a, b) < 1e-6, own.name, "rms_norm" + what);
    for (const GateForm form : {GateForm::kSilu, GateForm::kGeluTanh}) {
      own.gated(form, 1.5F, x.data(), w.data(), n, a.data());
      plain.gated(form, 1.5F, x.data(), w.data(), n, b.data());
      expect(distance(a, b) < 2e-6, own.name, "gated" + what);
    }
    for (const float factor : {1.0F, 0.7F}) {
      own.add(x.data(), w.data(), factor, n, a.data());
      plain.add(x.data(), w.data(), factor, n, b.data());
      expect(distance(a, b) < 1e-6, own.name, "add" + what);
    }
    const float d = own.dot(x.data(), w.data(), n);
    const float e = plain.dot(x.data(), w.data(), n);
    expect(std::fabs(d - e) < 1e-5F * static_cast<float>(n), own.name, "dot" + what);
    std::vector<std::uint16_t> s(x.size());
    std::vector<std::uint16_t> t(x.size());
    own.to_bf16(x.data(), n, n, s.data());
    plain.to_bf16(x.data(), n, n, t.data());
    expect(s == t, own.name, "to_bf16" + what);
    const auto q = floats(24);
    const auto k = floats(24);
    std::vector<float> state = floats(24 * n);
    std::vector<float> other = state;
    for (float& value : state)
      value = value * 0.5F;
    other = state;
    own.delta_step(q.data(), k.data(), x.data(), 0.9F, 0.6F, 24, n, state.data(), a.data());
    plain.delta_step(q.data(), k.data(), x.data(), 0.9F, 0.6F, 24, n, other.data(), b.data());
    expect(distance(a, b) < 3e-6 && distance(state, other) < 1e-6, own.name, "delta_step" + what);
    std::vector<std::vector<float>> lists;
    std::vector<const float*> rows;
    for (int i = 0; i < 11; ++i) {
      lists.push_back(floats(n));
      rows.push_back(lists.back().data());
    }
    const float sink = 0.3F;
    std::vector<float> p(11);
    own.attend_rows({x.data(), a.data(), rows.data(), 11, n, 0.2F, &sink, p.data(), nullptr});
    plain.attend_rows({x.data(), b.data(), rows.data(), 11, n, 0.2F, &sink, p.data(), nullptr});
    expect(distance(a, b) < 3e-6, own.name, "attend_rows" + what);
  }
}

}  // namespace
}  // namespace plumb::cpu

int main() {
  using namespace plumb::cpu;
  std::string names;
  for (const Isa isa : available_isas()) {
    const Kernels& own = kernels_for(isa);
    names += std::string(names.empty() ? "" : ", ") + own.name;
    check_products(own, kPortableKernels);
    check_largest(own, kPortableKernels);
    check_quantise(own, kPortableKernels);
    check_attention(own, kPortableKernels);
    check_int16_attention(own, kPortableKernels);
    check_kept(own, kPortableKernels);
    for (const CacheType type : {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0})
      check_not_finite(own, type);
    if (own.attend_int16 != nullptr) check_not_finite(own, CacheType::kInt16);
    check_rows(own, kPortableKernels);
  }
  std::printf("%d checks of %s: %d findings\n", checks, names.c_str(), findings);
  return findings == 0 ? 0 : 1;
}
