// Whether tokenization stays linear: each input at 1 and at 2 MB; "ratio" is the time of 2 MB over
// that of 1 MB. The goal is a ratio below 2.5.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "text/tokenizer.h"

namespace plumb {
namespace {

constexpr std::size_t kMegabyte = 1'000'000;

// BERT's WordPiece with the letters and marks of the inputs.
constexpr std::string_view kWordPiece = R"({
  "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "lowercase": true},
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 1048576,
            "vocab": {"[UNK]": 0, "a": 1, "##a": 2, "##aa": 3, "<": 4, "|": 5}}})";

Tokenizer load(const std::string& name) {
  if (name == "word_piece") return Tokenizer::from_json(kWordPiece, name).value();
  const std::string path = PLUMB_SOURCE_DIR "/tests/data/tokenizers/" + name + "/tokenizer.json";
  std::stringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return Tokenizer::from_json(text.str(), path).value();
}

std::string repeated(const std::string& part, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes)
    text += part;
  return text;
}

double seconds(const Tokenizer& tokenizer, const std::string& text) {
  const std::clock_t begin = std::clock();  // of the processor, which other programs do not disturb
  benchmark::DoNotOptimize(
      tokenizer.encode(text, {.add_special = false, .parse_special = true}).value());
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

void linear(benchmark::State& state, const std::string& name, const std::string& part) {
  const Tokenizer tokenizer = load(name);
  const std::string one = repeated(part, kMegabyte);
  const std::string two = repeated(part, 2 * kMegabyte);
  seconds(tokenizer, two);  // first touches the memory
  double of_one = std::numeric_limits<double>::infinity();
  double of_two = of_one;
  for ([[maybe_unused]] const auto step : state) {
    of_one = std::min(of_one, seconds(tokenizer, one));
    of_two = std::min(of_two, seconds(tokenizer, two));
  }
  state.counters["ratio"] = of_two / of_one;
  state.counters["MB/s"] = 2.0 / of_two;
}

const int kRegistered = [] {
  // Memory stays with the process: fresh pages, which the kernel clears above a size of its choosing, are not the algorithm's.
  constexpr int kNever = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kNever);
  mallopt(M_TRIM_THRESHOLD, kNever);
  for (const char* const name : {"gpt2", "llama3", "qwen2", "deepseek_v3", "o200k", "digits_groups",
                                 "llama2", "llama2_metaspace", "gemma", "unigram", "unigram_bytes",
                                 "strip_replace", "added_tokens", "word_piece"}) {
    for (const auto& [input, part] :
         {std::pair("letter", "a"), std::pair("space", " "), std::pair("mark", "\u0301"),
          std::pair("bracket", "<|"), std::pair("newline", "\n")}) {
      benchmark::RegisterBenchmark((std::string(name) + "/" + input).c_str(), linear, name, part)
          ->Iterations(5)
          ->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace plumb
