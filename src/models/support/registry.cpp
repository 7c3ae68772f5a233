// The architectures that the build found in src/models: registry.inc declares and lists one
// function per file.
#include "models/support/registry.h"

#include <algorithm>

namespace plumb {

#include "registry.inc"

namespace {

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> all = [] {
    std::vector<Architecture> list;
    for (const auto& make : kArchitectures)
      list.push_back(make());
    return list;
  }();
  return all;
}

}  // namespace

const Architecture* find_architecture(std::string_view model_type) {
  const auto& all = architectures();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Architecture& entry) {
    return entry.model_type == model_type ||
           std::find(entry.aliases.begin(), entry.aliases.end(), model_type) != entry.aliases.end();
  });
  return found == all.end() ? nullptr : &*found;
}

const Architecture* find_gguf_architecture(std::string_view name, bool experts, bool window) {
  const Architecture* found = nullptr;
  for (const Architecture& entry : architectures()) {
    if (name.empty() || entry.gguf.architecture != name || entry.gguf.experts != experts) continue;
    if (found == nullptr || entry.gguf.window == window) found = &entry;
  }
  return found;
}

std::vector<std::string_view> architecture_names() {
  std::vector<std::string_view> names;
  for (const Architecture& entry : architectures()) {
    names.push_back(entry.model_type);
    names.insert(names.end(), entry.aliases.begin(), entry.aliases.end());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace plumb
