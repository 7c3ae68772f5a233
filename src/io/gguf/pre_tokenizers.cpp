// Names of pre-tokenizers in GGUF (llama.cpp, llama-vocab.cpp) and the patterns of the tokenizer.json that each came from.
#include "io/gguf/pre_tokenizers.h"

#include <algorithm>

namespace plumb {
namespace {

constexpr const char* kGpt2 = kGpt2Pattern;
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kBloom = R"( ?[^(\s|[.,!?…。，、।۔،])]+)";
constexpr const char* kBailing =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kExaoneMoe =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kKanaAndIdeographs = R"([一-龥぀-ゟ゠-ヿ]+)";
constexpr const char* kSpark =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)";
constexpr const char* kJais2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S))"
    R"(|\s{1,2}(?!\S)|\s{1})";
constexpr const char* kYoutuScripts =
    R"([가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+)";
// o200k with single digits.
constexpr const char* kYoutu =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// moonshotai/Kimi-K2-Instruct, tokenization_kimi.py (pat_str).
constexpr const char* kKimi =
    R"([\p{Han}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kUfakzeka =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kMiniCpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+)"
    R"(|\s+(?!\S)|\s+)";
constexpr const char* kIdeographs = R"([一-龥ࠀ-一가-퟿]+)";
constexpr const char* kMarks = R"([\p{P}$+<=>^~|`]+)";
// The cased letters as deepseek-llm's tokenizer.json lists them.
constexpr const char* kDeepSeekLetters = R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯ)"
                                         R"(Ͱ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-)"
                                         R"(ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽ)"
                                         R"(Ა-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕ)"
                                         R"(Ἐ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-)"
                                         R"(ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐ)"
                                         R"(ῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓ)"
                                         R"(ℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿ)"
                                         R"(ⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ)"
                                         R"(Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ)"
                                         R"(ﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓)"
                                         R"(𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr const char* kDeepSeekMarks = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";

struct Entry {
  std::vector<std::string_view> names;  // the first is written
  GgufPreTokenizer stages;
};

const std::vector<Entry>& table() {
  static const std::vector<Entry> entries = {
      {{"gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "olmo", "jais", "trillion",
        "granite-docling", "mpt", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "jina-v1-en",
        "jina-v2-code", "roberta-bpe", "modern-bert"},
       {.patterns = {kGpt2}}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
        "jina-v5-nano"},
       {.patterns = {kLlama3}, .ignore_merges = true, .add_bos = true}},
      {{"smaug-bpe", "dbrx", "chatglm-bpe"}, {.patterns = {kLlama3}}},
      {{"glm4", "glm5"}, {.patterns = {kLlama3}, .ignore_merges = true}},
      {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"}, {.patterns = {kQwen2}, .nfc = true}},
      {{"stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"}, {.patterns = {kQwen2}}},
      {{"qwen35"}, {.patterns = {kQwen35}, .nfc = true}},
      {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, {.patterns = {kO200k}}},
      {{"granite-embed-multi-97m"}, {.patterns = {kO200k}, .ignore_merges = true}},
      {{"tekken"}, {.patterns = {kTekken}, .ignore_merges = true, .add_bos = true}},
      {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b",
        "mellum2"},
       {.patterns = {R"(\p{N})", kGpt2}}},
      // The models cut runs of digits after the byte alphabet; on the text only ASCII digits do the same.
      {{"falcon"}, {.patterns = {kMarks, kGpt2, "[0-9]+", "[0-9][0-9][0-9]"}}},
      {{"default"}, {.patterns = {R"([\p{P}$+<=>^~|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"}}},
      {{"bloom", "gpt3-finnish", "poro-chat"}, {.patterns = {kBloom}}},
      {{"viking"}, {.patterns = {kBloom, R"(\p{N})"}}},
      {{"deepseek-coder"},
       {.patterns = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kIdeographs, R"(\p{N})"}}},
      {{"deepseek-llm"},
       {.patterns = {R"([\r\n])", kDeepSeekLetters, kDeepSeekMarks, R"(\s+$)", kIdeographs,
                     R"(\p{N})"}}},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
       {.patterns = {R"(\p{N}{1,3})", kKanaAndIdeographs, kDeepSeekV3}}},
      {{"spark2_5"}, {.patterns = {R"(\p{N}{1,3})", kKanaAndIdeographs, kSpark, R"(\p{N})"}}},
      {{"bailingmoe", "bailingmoe2", "llada-moe"}, {.patterns = {kBailing}}},
      {{"seed-coder"}, {.patterns = {kSeedCoder}}},
      {{"exaone-moe"}, {.patterns = {kExaoneMoe}}},
      {{"jais-2"}, {.patterns = {kJais2}}},
      {{"youtu"}, {.patterns = {kYoutuScripts, kYoutu}, .ignore_merges = true}},
      {{"kimi-k2"}, {.patterns = {kKimi}}},
      {{"ufakzeka"}, {.patterns = {kUfakzeka}}},
      {{"laguna"}, {.patterns = {R"([^\n]+|[\n]+)", kQwen2}}},
      {{"minicpm5"}, {.patterns = {R"(\p{N}{1,3})", kMiniCpm5}, .ignore_merges = true}},
      {{"superbpe"}, {.patterns = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"}}},
      {{"tiny_aya", "cohere2moe"}, {.patterns = {R"(\d{1,3}(?=(?:\d{3})*\b))", kO200k}}},
      // The tokens of whole images and sentinels are special tokens besides.
      {{"chameleon"},
       {.patterns = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                     R"(([\t\n]|    |  ))", R"(\p{N})", R"([\p{P}!-/:-@\[-`{-~])", kGpt2},
        .add_bos = true}},
      // SentencePiece's pieces as byte-pair encoding: U+2581 for a space, no byte alphabet, lines apart.
      {{"gemma4", "granite-embed-multi-311m"},
       {.patterns = {R"([^\n]+|[\n]+)"}, .add_bos = true, .raw = true}},
      {{"sarvam-moe"}, {.patterns = {R"([^\n]+|[\n]+)"}, .raw = true}},
  };
  return entries;
}

// \r, \n and \t as the characters that they stand for.
std::string without_escapes(std::string_view pattern) {
  constexpr std::string_view kLetters = "rnt";
  constexpr std::string_view kCharacters = "\r\n\t";
  std::string out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const bool is_escape = pattern[i] == '\\' && i + 1 < pattern.size();
    const std::size_t known = is_escape ? kLetters.find(pattern[i + 1]) : std::string_view::npos;
    if (is_escape) ++i;
    if (known != std::string_view::npos) {
      out.push_back(kCharacters[known]);
      continue;
    }
    if (is_escape) out.push_back('\\');
    out.push_back(pattern[i]);
  }
  return out;
}

std::vector<std::string> without_escapes(const std::vector<std::string>& patterns) {
  std::vector<std::string> out;
  out.reserve(patterns.size());
  for (const std::string& pattern : patterns)
    out.push_back(without_escapes(pattern));
  return out;
}

}  // namespace

const GgufPreTokenizer* gguf_pre_tokenizer(std::string_view name) {
  for (const Entry& entry : table()) {
    if (std::find(entry.names.begin(), entry.names.end(), name) != entry.names.end())
      return &entry.stages;
  }
  return nullptr;
}

std::optional<std::string_view> gguf_pre_tokenizer_name(const std::vector<std::string>& patterns,
                                                        bool ignore_merges, bool nfc) {
  const std::vector<std::string> wanted = without_escapes(patterns);
  std::optional<std::string_view> other;
  for (const Entry& entry : table()) {
    if (entry.stages.raw || entry.stages.ignore_merges != ignore_merges ||
        without_escapes(entry.stages.patterns) != wanted)
      continue;
    if (entry.stages.nfc == nfc) return entry.names.front();
    if (!other) other = entry.names.front();
  }
  return other;
}

std::vector<std::string_view> gguf_pre_tokenizer_names() {
  std::vector<std::string_view> names;
  for (const Entry& entry : table())
    names.insert(names.end(), entry.names.begin(), entry.names.end());
  return names;
}

}  // namespace plumb
