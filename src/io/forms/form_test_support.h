// A safetensors file of a few tensors from their bytes, for tests of forms.
#pragma once
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "io/io_test_support.h"
#include "io/weight_map.h"

namespace plumb::test {

class FormFile {
 public:
  FormFile& add(std::string_view name, std::string_view dtype, std::string_view shape,
                std::string_view bytes) {
    header_ += (header_.empty() ? "{\"" : ",\"") + std::string(name) + "\":{\"dtype\":\"" +
               std::string(dtype) + "\",\"shape\":" + std::string(shape) + ",\"data_offsets\":[" +
               std::to_string(data_.size()) + "," + std::to_string(data_.size() + bytes.size()) +
               "]}";
    data_ += bytes;
    return *this;
  }

  template <class T>
  FormFile& add(std::string_view name, std::string_view dtype, std::string_view shape,
                const std::vector<T>& values) {
    std::string bytes(values.size() * sizeof(T), '\0');
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return add(name, dtype, shape, std::string_view(bytes));
  }

  WeightMap map(FileConventions conventions = {}, std::string_view settings = {}) const {
    const auto path = folder_.write("m.safetensors", safetensors_bytes(header_ + "}", data_));
    return {open_safetensors(path).value(), std::move(conventions), settings};
  }

  // All elements of parameter `name`; none, and a failure, where it cannot be taken.
  std::vector<double> values(std::string_view name, const Shape& shape,
                             FileConventions conventions = {}) const {
    WeightMap weights = map(std::move(conventions));
    const auto weight = weights.take(name, shape);
    EXPECT_TRUE(weight.ok()) << (weight.ok() ? "" : weight.error().message);
    return weight.ok() ? values_of(*weight.value()) : std::vector<double>{};
  }

  // The message with which taking `name` fails, after the file's name; "" when it does not.
  std::string error(std::string_view name, const Shape& shape) const {
    WeightMap weights = map();
    const auto weight = weights.take(name, shape);
    if (weight.ok()) return "";
    return weight.error().message.substr((folder_.path() / "m.safetensors: ").string().size());
  }

  static std::vector<double> values_of(const Weight& weight) {
    std::vector<double> values;
    std::vector<double> row(static_cast<std::size_t>(weight.row_length()));
    for (std::int64_t i = 0; i < weight.rows(); ++i) {
      weight.read_row(i, row);
      values.insert(values.end(), row.begin(), row.end());
    }
    return values;
  }

 private:
  TemporaryFolder folder_;
  std::string header_;
  std::string data_;
};

}  // namespace plumb::test
