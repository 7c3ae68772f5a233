// Traces made by hand, for tests: written to a folder, opened as any other.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors_writer.h"
#include "parity/trace.h"

namespace plumb {

struct MadeTensor {
  std::string name;  // "0/embed"
  Shape shape;
  std::vector<double> values;
  DType dtype = DType::kF32;
};

struct MadeTrace {
  std::vector<std::int32_t> token_ids;
  std::vector<std::int32_t> generated;
  std::vector<TraceStep> steps;
  std::vector<MadeTensor> tensors;
  std::string dtype = "float32";
  std::string model_type;
};

// Element i of a tensor of this seed: between -1 and 1, without a pattern.
inline double made_value(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15ULL + i * 0xD1B54A32D192ED03ULL;
  x ^= x >> 31;
  x *= 0x94D049BB133111EBULL;
  x ^= x >> 29;
  return static_cast<double>(
      static_cast<float>(static_cast<double>(x >> 40) / static_cast<double>(1 << 23) - 1));
}

inline std::vector<double> made_values(std::uint64_t seed, std::int64_t count) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i)
    values.push_back(made_value(seed, static_cast<std::uint64_t>(i)));
  return values;
}

// Element [i0, i1, …] of the result is element of `from` (row-major, `shape`) at the index that `at` gives.
inline std::vector<double> rearranged(const std::vector<double>& from, const Shape& shape,
                                      const Shape& to,
                                      const std::function<Shape(const Shape&)>& at) {
  std::vector<double> out;
  const std::int64_t count = *element_count(to);
  for (std::int64_t i = 0; i < count; ++i) {
    Shape index(to.size());
    std::int64_t rest = i;
    for (std::size_t k = to.size(); k-- > 0;) {
      index[k] = rest % to[k];
      rest /= to[k];
    }
    const Shape source = at(index);
    std::int64_t offset = 0;
    for (std::size_t k = 0; k < shape.size(); ++k)
      offset = offset * shape[k] + source[k];
    out.push_back(from[static_cast<std::size_t>(offset)]);
  }
  return out;
}

// Writes `made` below the tests' temporary folder and opens it.
inline Trace open_made(const MadeTrace& made) {
  static int number = 0;
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) /
      ("plumb-made-" + std::to_string(::getpid()) + "-" + std::to_string(number++) + ".trace");
  std::filesystem::create_directories(folder);
  const auto list = [](const std::vector<std::int32_t>& ids) {
    std::string text;
    for (const std::int32_t id : ids)
      text += (text.empty() ? "" : ",") + std::to_string(id);
    return "[" + text + "]";
  };
  std::string steps;
  for (const TraceStep& step : made.steps) {
    steps += steps.empty() ? "" : ",";
    steps += "{\"first\":" + std::to_string(step.first) +
             ",\"count\":" + std::to_string(step.count) + "}";
  }
  std::ofstream(folder / "manifest.json")
      << "{\"format\":\"plumb-trace/1\",\"dtype\":\"" << made.dtype
      << "\",\"model\":{\"model_type\":\"" << made.model_type
      << "\"},\"token_ids\":" << list(made.token_ids) << ",\"generated\":" << list(made.generated)
      << ",\"steps\":[" << steps << "]}";
  std::vector<TensorToWrite> headers;
  for (const MadeTensor& tensor : made.tensors)
    headers.push_back({tensor.name, tensor.dtype, tensor.shape});
  auto writer = SafetensorsWriter::create(folder / "tensors.safetensors", headers, {});
  EXPECT_TRUE(writer.ok()) << (writer.ok() ? "" : writer.error().message);
  for (std::size_t i = 0; i < made.tensors.size(); ++i) {
    const Status written = writer.value().write(i, made.tensors[i].values);
    EXPECT_TRUE(written.ok()) << (written.ok() ? "" : written.error().message);
  }
  EXPECT_TRUE(writer.value().finish().ok());
  auto trace = Trace::open(folder);
  EXPECT_TRUE(trace.ok()) << (trace.ok() ? "" : trace.error().message);
  std::error_code ignored;
  Trace opened = std::move(trace).value();
  std::filesystem::remove_all(folder, ignored);  // the mapping stays
  return opened;
}

}  // namespace plumb
