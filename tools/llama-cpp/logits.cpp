// The logits that llama.cpp computes of a GGUF file for given ids, in the arithmetic that is nearest to plain float32: keys and
// values cached in float32, no flash attention, no repacked weights. Part of tools/llama-cpp/agreement.py, which tells how to build it.
//   logits MODEL.gguf GREEDY_STEPS < ids > floats
// Standard input: one line of ids for each prompt. Standard output, binary: for each prompt all its rows of float32 logits, then the
// GREEDY_STEPS int32 ids that follow it when the largest logit is taken.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::cerr << what << '\n';
  std::exit(1);
}

// The logits of the last `rows` of the tokens fed.
std::vector<float> feed(llama_context* context, const std::vector<llama_token>& ids, int position,
                        int vocabulary, bool all) {
  const auto count = static_cast<int>(ids.size());
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int i = 0; i < count; ++i) {
    batch.token[i] = ids[i];
    batch.pos[i] = position + i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = all || i + 1 == count;
  }
  if (llama_decode(context, batch) != 0) fail("llama_decode failed");
  std::vector<float> logits;
  for (int i = 0; i < count; ++i) {
    if (!batch.logits[i]) continue;
    const float* row = llama_get_logits_ith(context, i);
    logits.insert(logits.end(), row, row + vocabulary);
  }
  llama_batch_free(batch);
  return logits;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: logits MODEL.gguf GREEDY_STEPS < ids");
  const int steps = std::atoi(argv[2]);
  llama_backend_init();
  if (std::getenv("LLAMA_LOG") == nullptr) {
    llama_log_set([](ggml_log_level level, const char* text, void*) {
      if (level == GGML_LOG_LEVEL_ERROR) std::cerr << text;
    }, nullptr);
  }
  llama_model_params model_params = llama_model_default_params();
  model_params.use_extra_bufts = false;
  llama_model* model = llama_model_load_from_file(argv[1], model_params);
  if (model == nullptr) fail("llama.cpp does not load it");
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream numbers(line);
    std::vector<llama_token> ids;
    for (llama_token id; numbers >> id;)
      ids.push_back(id);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(ids.size()) + static_cast<std::uint32_t>(steps) + 8;
    params.n_batch = params.n_ubatch = params.n_ctx;
    params.n_threads = params.n_threads_batch = 2;
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.swa_full = true;
    llama_context* context = llama_init_from_model(model, params);
    if (context == nullptr) fail("llama.cpp makes no context for it");
    std::vector<float> logits = feed(context, ids, 0, vocabulary, true);
    std::fwrite(logits.data(), sizeof(float), logits.size(), stdout);
    auto position = static_cast<int>(ids.size());
    for (int step = 0; step < steps; ++step) {
      const auto last = logits.end() - vocabulary;
      const auto best = static_cast<std::int32_t>(std::max_element(last, logits.end()) - last);
      std::fwrite(&best, sizeof(best), 1, stdout);
      if (step + 1 < steps) logits = feed(context, {best}, position++, vocabulary, false);
    }
    llama_free(context);
  }
  llama_model_free(model);
}
