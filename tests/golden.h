// Checkpoints of tests/data with what transformers computes from them (tests/data/README.md), for
// tests that change a network and measure how far that takes it.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/model.h"
#include "io/decode.h"
#include "io/tensor_source.h"
#include "reference/executor.h"

namespace plumb::golden {

inline std::filesystem::path data_folder() {
  return std::filesystem::path(PLUMB_SOURCE_DIR) / "tests/data";
}

inline std::filesystem::path checkpoints() {
  return data_folder() / "checkpoints";
}

// The checkpoints that have `file`, such as "golden/golden.safetensors", in alphabetical order.
inline std::vector<std::string> names(const std::string& file) {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoints())) {
    if (std::filesystem::exists(entry.path() / file)) found.insert(entry.path().filename());
  }
  return {found.begin(), found.end()};
}

// The demonstration model's weights lie where the program finds them.
inline std::filesystem::path model_folder(const std::string& name) {
  const auto folder = checkpoints() / name;
  return std::filesystem::exists(folder / "model.safetensors")
             ? folder
             : std::filesystem::path(PLUMB_SOURCE_DIR) / "models/demo";
}

inline Model load(const std::string& name) {
  auto model = Model::load(model_folder(name), {});
  if (!model.ok()) throw std::runtime_error(model.error().message);
  return std::move(model).value();
}

inline std::string test_name(const testing::TestParamInfo<std::string>& parameter) {
  std::string name = parameter.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

inline Tensor tensor(const TensorSource& source, const std::string& name) {
  const StoredTensor* stored = source.find(name);
  EXPECT_NE(stored, nullptr) << name;
  if (stored == nullptr) return {};
  Tensor tensor(stored->shape);
  decode(stored->dtype, stored->bytes, tensor.data);
  return tensor;
}

inline std::vector<std::int32_t> ids(const TensorSource& source, const std::string& name) {
  const Tensor values = tensor(source, name);
  return {values.data.begin(), values.data.end()};
}

// golden.safetensors of one checkpoint.
class Golden {
 public:
  explicit Golden(const std::string& name) {
    auto source = open_safetensors(checkpoints() / name / "golden/golden.safetensors");
    if (!source.ok()) throw std::runtime_error(source.error().message);
    source_ = source.value();
  }

  std::vector<double> values(const std::string& name) const { return tensor(*source_, name).data; }
  std::vector<std::int32_t> ids(const std::string& prompt) const {
    return golden::ids(*source_, prompt + "/ids");
  }

 private:
  std::shared_ptr<const TensorSource> source_;
};

// |a - b| / |b|.
inline double relative_l2(const std::vector<double>& values, const std::vector<double>& reference) {
  EXPECT_EQ(values.size(), reference.size());
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < std::min(values.size(), reference.size()); ++i) {
    error += (values[i] - reference[i]) * (values[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  return std::sqrt(error / norm);
}

inline double distance(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape, b.shape);
  return relative_l2(a.data, b.data);
}

// Rows whose largest logit is at another id.
inline std::int64_t argmax_changes(const Tensor& a, const Tensor& b) {
  std::int64_t changes = 0;
  for (std::int64_t t = 0; t < a.tokens(); ++t) {
    const auto best = [&](const Tensor& x) {
      return std::max_element(x.row(t).begin(), x.row(t).end()) - x.row(t).begin();
    };
    changes += best(a) != best(b) ? 1 : 0;
  }
  return changes;
}

struct RunOptions {
  Precision precision = Precision::kFp32;
  int threads = 2;
  std::int64_t chunk = 0;
  std::size_t one_by_one = 0;  // this many of the last ids are fed in forward passes of their own
};

// Logits of all positions; a failure is reported and gives an empty tensor.
inline Tensor run(const BoundGraph& network, std::span<const std::int32_t> ids,
                  const RunOptions& options) {
  const auto executor = make_reference_executor(network, options.precision, options.threads);
  const auto sequence = executor->start();
  Tensor all;
  const auto feed = [&](std::span<const std::int32_t> piece) {
    const auto logits = executor->forward(
        *sequence, piece,
        {.rows = LogitRows::kAll, .chunk = options.chunk, .observer = nullptr, .progress = {}});
    ASSERT_TRUE(logits.ok()) << logits.error().message;
    if (all.shape.empty()) all = Tensor({0, logits.value().shape[1]});
    all.shape[0] += logits.value().tokens();
    all.data.insert(all.data.end(), logits.value().data.begin(), logits.value().data.end());
  };
  const std::size_t first = ids.size() - std::min(options.one_by_one, ids.size());
  if (first > 0) feed(ids.subspan(0, first));
  for (std::size_t i = first; i < ids.size(); ++i)
    feed(ids.subspan(i, 1));
  return all;
}

// Logits of all positions from one forward pass.
inline Tensor logits(const BoundGraph& network, const std::vector<std::int32_t>& ids,
                     Precision precision, int threads, std::int64_t chunk) {
  return run(network, ids, {.precision = precision, .threads = threads, .chunk = chunk});
}

}  // namespace plumb::golden
