// A model as a GGUF file: the other direction of names.h.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "io/config.h"
#include "io/gguf/conventions.h"
#include "io/gguf/file_types.h"
#include "io/gguf/tokenizer_data.h"
#include "io/gguf/writer.h"
#include "io/weight.h"

namespace plumb {

struct NamedWeight {
  std::string name;  // canonical
  WeightPtr weight;
};

struct GgufConversion {
  std::string name;  // general.name
  const Config& config;
  const GgufConventions& conventions;
  std::vector<NamedWeight> parameters;
  std::optional<GgufTokenizer> tokenizer;
  GgufFileType type;
  int threads;  // 0: one per processor
};

Status write_gguf(const GgufConversion& conversion, const std::filesystem::path& path,
                  const WriteProgress& progress);

}  // namespace plumb
