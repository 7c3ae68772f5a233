#include "parity/compare_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "parity/stage_names.h"

namespace plumb {

std::vector<std::string> unobserved_stages(const Pairing& pairing) {
  std::vector<std::string> sentences = pairing.misfits;
  const auto list = [&](const std::vector<std::string>& names, const char* side,
                        const char* other) {
    std::map<std::string, std::vector<int>> kinds;
    std::vector<std::string> order;
    for (const std::string& name : names) {
      const StageName parsed = stage_name(name);
      const std::string kind = parsed.layer < 0 ? name : "layers.*." + parsed.role;
      if (!kinds.contains(kind)) order.push_back(kind);
      kinds[kind].push_back(parsed.layer);
    }
    for (const std::string& kind : order) {
      const auto& layers = kinds[kind];
      sentences.push_back(
          layers.size() > 1
              ? fmt::format("\"{}\", {} layers: {} has it, nothing of {} is like it", kind,
                            layers.size(), side, other)
              : fmt::format(
                    "\"{}\": {} has it, nothing of {} is like it",
                    layers[0] < 0 ? kind : "layers." + std::to_string(layers[0]) + kind.substr(8),
                    side, other));
    }
  };
  list(pairing.only_a, "A", "B");
  list(pairing.only_b, "B", "A");
  return sentences;
}

std::vector<std::string> transforms_of(const std::vector<ComparedStage>& stages) {
  using Kinds = std::vector<std::pair<std::string, std::vector<const ComparedStage*>>>;
  Kinds layouts;
  Kinds names;
  const auto add = [&](Kinds& kinds, const std::string& words, const ComparedStage& stage) {
    const auto found = std::find_if(kinds.begin(), kinds.end(),
                                    [&](const auto& kind) { return kind.first == words; });
    if (found != kinds.end()) {
      found->second.push_back(&stage);
    } else {
      kinds.push_back({words, {&stage}});
    }
  };
  for (const ComparedStage& stage : stages) {
    const StageName name = stage_name(stage.stage);
    for (const std::string& words : stage.transforms)
      add(layouts, (name.layer < 0 ? name.role : "layers.*." + name.role) + ": " + words, stage);
    if (stage.a_name != stage.b_name) {
      const auto general = [&](const std::string& theirs) {
        std::string out = theirs;
        const std::string number = std::to_string(name.layer);
        if (const auto at = out.find(number); name.layer >= 0 && at != std::string::npos)
          out.replace(at, number.size(), "*");
        return out;
      };
      add(names,
          fmt::format("\"{}\" of A is \"{}\" of B, by {}", general(stage.a_name),
                      general(stage.b_name), to_string(stage.by)),
          stage);
    }
  }
  std::vector<std::string> transforms;
  for (const Kinds& kinds : {layouts, names}) {
    for (const auto& [words, with] : kinds)
      transforms.push_back(with.size() > 1 ? fmt::format("{} ({} layers)", words, with.size()) : words);
  }
  return transforms;
}

}  // namespace plumb
