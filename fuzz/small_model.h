// Models without files: a configuration, and weights of which element i is a number that follows from i and the parameter's name.
#pragma once
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "models/support/registry.h"

namespace plumb::fuzz {

// What is bound and run; a graph of more is recorded alone.
inline constexpr std::int64_t kMostElements = 1 << 16;

class MadeWeight final : public Weight {
 public:
  explicit MadeWeight(const Param& param) : shape_(param.shape), ids_below_(param.ids_below) {
    for (const char c : param.name)
      seed_ = seed_ * 31 + static_cast<unsigned char>(c);
  }
  const Shape& shape() const override { return shape_; }
  void read_row(std::int64_t row, std::span<double> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::uint64_t x = seed_ + (static_cast<std::uint64_t>(row * row_length()) + i) * 0x9E3779B97F4A7C15U;
      x = (x ^ x >> 31) * 0x94D049BB133111EBU;
      // Sixteenths, so that every number type holds them.
      out[i] = ids_below_ ? static_cast<double>(x % static_cast<std::uint64_t>(std::max<std::int64_t>(*ids_below_, 1)))
                          : (static_cast<double>(x >> 59) - 15.5) / 16;
    }
  }
  std::string format() const override { return "made"; }
  std::uint64_t stored_bytes() const override { return 0; }

 private:
  Shape shape_;
  std::optional<std::int64_t> ids_below_;
  std::uint64_t seed_ = 7;
};

// As Model::load makes it of a folder; nothing where the configuration is refused, or asks for more than kMostElements.
inline std::optional<Model> small_model(std::string_view config_json) {
  auto parsed = Config::parse(config_json, "input");
  if (!parsed.ok()) return std::nullopt;
  Config config = std::move(parsed).value();
  const Architecture* architecture = find_architecture(config.model_type());
  if (architecture == nullptr || !config.apply_defaults(architecture->defaults).ok() || !config.status().ok()) return std::nullopt;
  auto graph = architecture->record(config);
  if (!graph.ok()) return std::nullopt;
  Model model;
  model.path = "no folder";
  model.network.graph = std::move(graph).value();
  std::int64_t elements = 0;
  for (const Param& param : model.network.graph.params)
    elements = std::min(elements + element_count(param.shape).value_or(kMostElements), kMostElements + 1);
  for (const Stage& stage : model.network.graph.stages) {
    for (const Output& output : stage.outputs) {
      std::int64_t own = 1;
      for (const std::int64_t axis : output.shape)
        own = std::min(own * std::clamp<std::int64_t>(axis, 1, kMostElements), kMostElements);
      elements = std::min(elements + own, kMostElements + 1);
    }
  }
  for (std::size_t i = 0; i < model.network.graph.states.size(); ++i)
    elements = static_cast<std::int64_t>(
        std::min<std::uint64_t>(static_cast<std::uint64_t>(elements) + bytes_of(model.network.graph.states[i], 1).fixed, kMostElements + 1));
  if (elements > kMostElements) return std::nullopt;
  for (const Param& param : model.network.graph.params)
    model.network.weights.push_back(std::make_shared<MadeWeight>(param));
  (void)config.unread();
  model.config = std::make_shared<const Config>(std::move(config));
  return model;
}

}  // namespace plumb::fuzz
