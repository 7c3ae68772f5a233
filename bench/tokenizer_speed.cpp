// Encoding a megabyte of mixed text (code, English, CJK, white space), one thread: bench/tokenizer_speed.py writes the text,
// runs this and the `tokenizers` package on it, and prints both. Arguments: a tokenizer (any file that load_tokenizer knows) and the
// text, by environment.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "engine/tokenizer_file.h"

namespace plumb {
namespace {

std::string read_named(const char* variable) {
  const char* const path = std::getenv(variable);
  std::stringstream text;
  if (path != nullptr) text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void encode(benchmark::State& state) {
  const char* const path = std::getenv("PLUMB_BENCH_TOKENIZER");
  const auto tokenizer = load_tokenizer(path == nullptr ? "" : path);
  if (!tokenizer.ok() || tokenizer.value() == nullptr) {
    state.SkipWithError("PLUMB_BENCH_TOKENIZER names no tokenizer");
    return;
  }
  const std::string text = read_named("PLUMB_BENCH_TEXT");
  for ([[maybe_unused]] const auto step : state) {
    benchmark::DoNotOptimize(
        tokenizer.value()->encode(text, {.add_special = false, .parse_special = true}).value());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

BENCHMARK(encode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace plumb
