// One hypothesis for each other value of each field of a stage's operation.
#include <cmath>

#include "core/source_names.h"
#include "graph/fields.h"
#include "parity/hypothesis.h"
#include "parity/more_hypotheses.h"

namespace plumb {
namespace {

// Writes one field of an operation, found by its name; `to` is told as a number (enums and booleans by their ordinal).
// An optional is emptied by NaN.
struct Setter {
  std::string_view name;
  double to;
  bool done = false;

  template <class T>
  void set(T& value) {
    if constexpr (std::is_enum_v<T>) {
      value = static_cast<T>(static_cast<std::underlying_type_t<T>>(to));
      done = true;
    } else if constexpr (std::is_same_v<T, bool>) {
      value = to != 0;
      done = true;
    } else if constexpr (std::is_same_v<T, double>) {
      value = to;
      done = true;
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
      value = static_cast<std::int64_t>(std::llround(to));
      done = true;
    }
  }

  template <class T>
  void set(std::optional<T>& value) {
    if (std::isnan(to)) {
      value = std::nullopt;
      done = true;
      return;
    }
    T inner{};
    set(inner);
    value = inner;
  }
};

bool set_field(Operation& operation, std::string_view name, double to) {
  Setter setter{.name = name, .to = to};
  std::visit(
      [&](auto& op) {
        visit_fields(op, [&](std::string_view field, auto& value) {
          if (field == name) setter.set(value);
        });
      },
      operation);
  return setter.done;
}

struct Choice {
  double to;
  FieldValue found;
};

// The other values of a field that is a choice; empty for numbers.
struct Choices {
  std::vector<Choice> list;

  template <class T>
  void of(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      const auto names = enum_names<T>();
      for (std::size_t i = 0; i < names.size(); ++i) {
        if (i != static_cast<std::size_t>(value))
          list.push_back({static_cast<double>(i), names[i]});
      }
    } else if constexpr (std::is_same_v<T, bool>) {
      list.push_back({value ? 0.0 : 1.0, !value});
    }
  }

  template <class T>
  void of(const std::optional<T>& value) {
    if (value) list.push_back({std::nan(""), std::monostate{}});
  }
};

// Stages of the operation that the change concerns: a clamp's value makes sense only where there is one, and so on.
bool concerns(const Operation& operation, std::string_view name, double to, const Stage& stage,
              const BoundGraph& network) {
  if (const auto* linear = std::get_if<Linear>(&operation)) {
    if (name == "bias") return linear->bias;  // a bias that the checkpoint lacks cannot be added
    if (name == "order") {
      const Shape& shape = network.graph.params[static_cast<std::size_t>(stage.params[0])].shape;
      return shape[0] == shape[1];
    }
  }
  if (name == "limit_sides") return std::holds_alternative<Gated>(operation) && std::get<Gated>(operation).limit;
  if (name == "gated.limit_sides") return std::get<Experts>(operation).gated.limit.has_value();
  if (const auto* attend = std::get_if<Attend>(&operation)) {
    if (name == "sinks") return attend->sinks;
    if (name == "groups")
      return network.graph.output(stage.inputs[0]).shape[0] !=
             network.graph.output(stage.inputs[1]).shape[0];
    if (name == "window" && std::isnan(to)) return attend->window.has_value();
  }
  if (const auto* shared = std::get_if<AttendShared>(&operation)) {
    if (name == "sinks") return shared->sinks;
  }
  if (const auto* compress = std::get_if<Compress>(&operation)) {
    if (name == "position_bias") return compress->position_bias;
  }
  if (const auto* router = std::get_if<Router>(&operation)) {
    if (name == "selection_bias") return router->selection_bias != SelectionBias::kNone;
  }
  if (const auto* rope = std::get_if<Rope>(&operation)) {
    const RopeScaling scaling = rope->frequencies.scaling;
    const std::int64_t head_dim = stage.outputs[0].shape.back();
    if (name == "slice") return rope->dims < head_dim;
    if (name == "dims")
      return to >= 2 && to <= static_cast<double>(head_dim) && std::llround(to) % 2 == 0;
    if (name == "frequencies.scaling")
      return to == 0;  // the others need numbers that the configuration does not hold
    if (name == "frequencies.factor") return rope->frequencies.factor != 1;
    if (name == "frequencies.original_length")
      return scaling != RopeScaling::kNone && scaling != RopeScaling::kLinear;
    if (name == "frequencies.low_freq_factor" || name == "frequencies.high_freq_factor")
      return scaling == RopeScaling::kLlama3;
    if (name == "frequencies.beta_fast" || name == "frequencies.beta_slow" ||
        name == "frequencies.truncate") {
      return scaling == RopeScaling::kYarn;
    }
  }
  return true;
}

// Values worth trying first that only the model knows.
std::vector<double> model_snaps(const Operation& operation, std::string_view name,
                                const Stage& stage, const Config& config) {
  std::vector<double> snaps;
  if (const auto* attend = std::get_if<Attend>(&operation)) {
    if (name == "scale") {
      for (const double dim :
           {static_cast<double>(config.head_dim), static_cast<double>(config.hidden_size),
            static_cast<double>(config.hidden_size) /
                static_cast<double>(config.num_attention_heads)}) {
        for (const double snap : {1 / std::sqrt(dim), 1 / dim})
          snaps.push_back(snap);
      }
      for (const double ratio : {0.5, 2.0, attend->scale, 1 / attend->scale})
        snaps.push_back(attend->scale * ratio);
    }
    if (name == "window") {
      if (config.sliding_window) snaps.push_back(static_cast<double>(*config.sliding_window));
      if (attend->window) {
        const auto window = static_cast<double>(*attend->window);
        for (const double snap : {window + 1, window - 1, 2 * window, window / 2})
          snaps.push_back(snap);
      }
    }
  }
  if (name == "blocks.ahead") {
    const auto* shared = std::get_if<AttendShared>(&operation);
    const auto* index = std::get_if<Index>(&operation);
    const std::int64_t ratio = shared != nullptr && shared->blocks ? shared->blocks->ratio
                               : index != nullptr                  ? index->blocks.ratio
                                                                   : 0;
    // A block earlier or later than it is complete; from its first token; all of them, or none.
    for (const std::int64_t snap : {1 + ratio, 1 - ratio, ratio, std::int64_t{1} << 18, -(std::int64_t{1} << 18)})
      snaps.push_back(static_cast<double>(snap));
  }
  if (const auto* connection = std::get_if<HyperConnection>(&operation)) {
    if (name == "iterations") {
      for (const std::int64_t snap : {connection->iterations - 1, connection->iterations + 1, std::int64_t{0}, std::int64_t{1}})
        snaps.push_back(static_cast<double>(snap));
    }
  }
  if (std::holds_alternative<L2Norm>(operation) && name == "scale") {
    const auto dim = static_cast<double>(stage.outputs[0].shape.back());
    for (const double snap : {1 / std::sqrt(dim), 1 / dim, std::sqrt(dim)})
      snaps.push_back(snap);
  }
  if (std::holds_alternative<Embed>(operation)) {
    const double root = std::sqrt(static_cast<double>(config.hidden_size));
    for (const double snap : {root, 1 / root, double{round_to_bfloat16(static_cast<float>(root))}})
      snaps.push_back(snap);
  }
  if (std::holds_alternative<Rope>(operation)) {
    if (name == "dims") {
      const std::int64_t head_dim = stage.outputs[0].shape.back();
      for (const std::int64_t part : {1, 2, 4})
        snaps.push_back(static_cast<double>(head_dim / part));
    }
    if (name == "frequencies.theta") {
      for (const auto& entry : config.rope_of_layer_type)
        snaps.push_back(entry.second.theta);
    }
    const double factor = std::get<Rope>(operation).frequencies.factor;
    if (name == "attention_factor" && factor > 1) {
      const double yarn = 0.1 * std::log(factor) + 1;  // what YaRN gives where the file says nothing
      for (const double snap : {yarn, yarn * yarn, 1 / yarn, std::sqrt(yarn)})
        snaps.push_back(snap);
    }
    if (name == "frequencies.factor")
      snaps.push_back(1 / std::get<Rope>(operation).frequencies.factor);
  }
  return snaps;
}

}  // namespace

Stage& patched_stage(const BoundGraph& network, int index, Patch& patch) {
  return patch.stages.try_emplace(index, network.graph.stages[static_cast<std::size_t>(index)])
      .first->second;
}

std::vector<Hypothesis> field_hypotheses(const BoundGraph& network, const Config& config,
                                         int index) {
  const Stage& stage = network.graph.stages[static_cast<std::size_t>(index)];
  const std::string operation = operation_name(stage.operation);
  std::vector<Hypothesis> list;
  const auto apply_to = [kind = stage.operation.index()](std::string name) {
    return [kind, name = std::move(name)](const BoundGraph& net, int target, double value,
                                          Patch& patch) {
      Stage& changed = patched_stage(net, target, patch);
      return changed.operation.index() == kind &&
             concerns(changed.operation, name, value, changed, net) &&
             set_field(changed.operation, name, value);
    };
  };
  const auto add = [&](std::string_view name, const auto& value, const FieldValue& expected) {
    const FieldCause* cause = find_cause(operation, name);
    if (cause == nullptr) return;
    Choices choices;
    choices.of(value);
    for (const Choice& choice : choices.list) {
      if (!concerns(stage.operation, name, choice.to, stage, network)) continue;
      list.push_back({.row = std::string(cause->row),
                      .field = operation + "." + std::string(name),
                      .cause = std::string(cause->cause),
                      .expected = expected,
                      .found = choice.found,
                      .range = std::nullopt,
                      .apply = [set = apply_to(std::string(name)), to = choice.to](
                                   const BoundGraph& net, int target, double, Patch& patch) {
                        return set(net, target, to, patch);
                      },
                      .rarity = cause->rarity});
    }
    if (!cause->range) return;
    Range range = *cause->range;
    auto own = model_snaps(stage.operation, name, stage, config);
    own.insert(own.end(), range.snaps.begin(), range.snaps.end());
    range.snaps = std::move(own);
    if (std::holds_alternative<Rope>(stage.operation) && name == "dims")
      range.high = static_cast<double>(stage.outputs[0].shape.back());
    const double probe = range.snaps.empty() ? range.low : range.snaps.front();
    if (!concerns(stage.operation, name, probe, stage, network)) return;
    list.push_back({.row = std::string(cause->row),
                    .field = operation + "." + std::string(name),
                    .cause = std::string(cause->cause),
                    .expected = expected,
                    .found = std::monostate{},
                    .range = std::move(range),
                    .apply = apply_to(std::string(name))});
  };
  const auto described = fields(stage.operation);
  std::visit(
      [&](const auto& op) {
        std::size_t next = 0;
        visit_fields(op, [&](std::string_view name, const auto& value) {
          add(name, value, described[next++].value);
        });
      },
      stage.operation);
  return list;
}

std::vector<Hypothesis> hypotheses_about(const BoundGraph& network, const Config& config,
                                         int index) {
  auto list = field_hypotheses(network, config, index);
  for (auto&& more : {structural_hypotheses(network, index), computed_hypotheses(network, index),
                      attention_hypotheses(network, index), position_hypotheses(network, index),
                      precision_hypotheses(network, index), block_hypotheses(network, index),
                      delta_hypotheses(network, index), stream_hypotheses(network, index),
                      compressed_hypotheses(network, index), routing_hypotheses(network, index),
                      wiring_hypotheses(network, index), mask_hypotheses(network, index),
                      lent_hypotheses(network, index), activation_hypotheses(network, index),
                      stored_hypotheses(network, index)})
    list.insert(list.end(), more.begin(), more.end());
  return list;
}

}  // namespace plumb
