// Logits of every position from libllama, for bench/numerics.py, which compiles this against a given llama.cpp.
//   logits MODEL.gguf IDS OUT THREADS f16|f32
// IDS: one prompt a line, ids separated by commas. OUT: float32 rows, prompt after prompt. The last argument is the type of the
// key-value cache; f16 is llama.cpp's default, f32 also turns flash attention off.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

std::vector<std::vector<llama_token>> read_prompts(const char* path) {
  std::vector<std::vector<llama_token>> prompts;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::vector<llama_token>& prompt = prompts.emplace_back();
    for (std::string word; std::getline(words, word, ',');)
      prompt.push_back(std::stoi(word));
  }
  return prompts;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) fail("logits MODEL.gguf IDS OUT THREADS f16|f32");
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) fail("the model does not load");
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::ofstream out(argv[3], std::ios::binary);
  for (const std::vector<llama_token>& prompt : read_prompts(argv[2])) {
    llama_context_params params = llama_context_default_params();
    const auto tokens = static_cast<int>(prompt.size());
    params.n_ctx = params.n_batch = params.n_ubatch = static_cast<unsigned>(std::max(tokens, 256));
    params.n_threads = params.n_threads_batch = std::atoi(argv[4]);
    if (std::string(argv[5]) == "f32") {
      params.type_k = params.type_v = GGML_TYPE_F32;
      params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    llama_context* context = llama_init_from_model(model, params);
    if (context == nullptr) fail("the context is not made");
    llama_batch batch = llama_batch_init(tokens, 0, 1);
    batch.n_tokens = tokens;
    for (int i = 0; i < tokens; ++i) {
      batch.token[i] = prompt[i];
      batch.pos[i] = i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    if (llama_decode(context, batch) != 0) fail("decoding failed");
    for (int i = 0; i < tokens; ++i)
      out.write(reinterpret_cast<const char*>(llama_get_logits_ith(context, i)), sizeof(float) * vocabulary);
    llama_batch_free(batch);
    llama_free(context);
  }
  llama_model_free(model);
  return out.good() ? 0 : 1;
}
