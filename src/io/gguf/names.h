// Between GGUF's names and keys and the canonical ones, both ways.
//   PLUMB_TRY(Config config, config_from_gguf(*file, "llama", conventions));
//   config.apply_defaults(…);
//   WeightMap map(file, gguf_files(conventions, config));
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <span>
#include <vector>

#include "core/result.h"
#include "io/config.h"
#include "io/gguf/conventions.h"
#include "io/gguf/reader.h"
#include "io/gguf/tokenizer_data.h"
#include "io/weight_map.h"

namespace plumb {

// general.architecture, and whether the file has experts and a sliding window: what selects an architecture.
struct GgufKind {
  std::string architecture;
  bool experts;
  bool window;
};

Result<GgufKind> gguf_kind(const GgufFile& file);

// The file's metadata as a config.json of `model_type`; what tensors say (vocabulary, tied head, biases, frequency divisors)
// is part of it. Metadata that is not known keeps its GGUF key, so that Config::unread() lists it.
Result<Config> config_from_gguf(const GgufFile& file, std::string_view model_type,
                                const GgufConventions& conventions);

// The rules that lead from canonical names to the file's tensors. `config` with its defaults applied. The string views in
// `conventions` must outlive the result.
FileConventions gguf_files(const GgufConventions& conventions, const Config& config);

// The tokenizer; an error when the file has none.
Result<GgufTokenizer> tokenizer_from_gguf(const GgufFile& file);

// Where a parameter, or a part of one, goes when a GGUF file is written: its tensor, and the expert that it is of a stack.
struct GgufPlace {
  std::string tensor;
  std::optional<std::int64_t> expert;
  std::optional<int> rows;  // as in GgufName
  WeightPtr stored;         // the parameter in the form of the file
  bool is_part;             // rows that follow those of the parts before it in the same tensor
};

// Nothing where files of the architecture have no such tensor.
Result<std::vector<GgufPlace>> gguf_places(const GgufConventions& conventions, const Config& config,
                                           std::string_view name, const WeightPtr& weight);

// The keys that all architectures share, for reading and writing.
std::span<const GgufKey> gguf_shared_keys();

// The architecture's own entry of a key, or null.
const GgufKey* own_key(const GgufConventions& conventions, std::string_view key);

}  // namespace plumb
