// Any model that plumb loads, as a GGUF file.
#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "core/result.h"
#include "io/gguf/file_types.h"
#include "io/gguf/writer.h"

namespace plumb {

struct ConvertOptions {
  GgufFileType type;
  int threads;  // 0: one per processor
  // Called with each sentence on what llama.cpp does not load of the file, or computes otherwise.
  std::function<void(const std::string&)> caveat = {};
};

// Reads `model`, a folder or a GGUF file, and writes `out`; `out` is whole or as it was whenever this stops.
Status convert_to_gguf(const std::filesystem::path& model, const std::filesystem::path& out,
                       const ConvertOptions& options, const WriteProgress& progress);

}  // namespace plumb
