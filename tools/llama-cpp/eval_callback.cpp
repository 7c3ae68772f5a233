// What llama-eval-callback prints (common/debug.cpp), whole and with every digit, for plumb.read_llama_cpp: each tensor that llama.cpp
// computes of a GGUF file for given ids. llama-eval-callback itself prints four decimals and the ends of each axis.
//   L=path/to/llama.cpp    # built in $L/build
//   g++ -O2 -std=c++17 tools/llama-cpp/eval_callback.cpp -I$L/include -I$L/ggml/include -L$L/build/bin -lllama -lggml -lggml-base
//       -Wl,-rpath,$L/build/bin -o build/llama-cpp-eval-callback
//   eval-callback MODEL.gguf DECODE_STEPS FLASH < ids > output
// Standard input: the ids of the prompt, which is fed in one pass; then the likeliest ids one by one. FLASH: 1 as llama.cpp does unless
// told otherwise, 0 without flash attention, so that attention's probabilities are seen.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

namespace {

[[noreturn]] void fail(const std::string& what) {
  std::cerr << what << '\n';
  std::exit(1);
}

std::string sizes(const ggml_tensor* t) {
  std::string text;
  for (int axis = 0; axis < GGML_MAX_DIMS; ++axis)
    text += (axis > 0 ? ", " : "") + std::to_string(t->ne[axis]);
  return text;
}

double element(const char* at, ggml_type type) {
  switch (type) {
    case GGML_TYPE_F32: {
      float value = 0;
      std::memcpy(&value, at, sizeof(value));
      return value;
    }
    case GGML_TYPE_F16: {
      ggml_fp16_t value = 0;
      std::memcpy(&value, at, sizeof(value));
      return ggml_fp16_to_fp32(value);
    }
    case GGML_TYPE_I32: {
      std::int32_t value = 0;
      std::memcpy(&value, at, sizeof(value));
      return value;
    }
    default:
      return 0;
  }
}

bool print(ggml_tensor* t, bool ask, void*) {
  const bool known = t->type == GGML_TYPE_F32 || t->type == GGML_TYPE_F16 || t->type == GGML_TYPE_I32;
  if (ask) return known;
  const ggml_tensor* first = t->src[0];
  const ggml_tensor* second = t->src[1];
  std::printf("common_debug_cb_eval: %24s = (%s) %10s(%s{%s}, %s}) = {%s}\n", t->name, ggml_type_name(t->type), ggml_op_desc(t),
              first != nullptr ? first->name : "", first != nullptr ? sizes(first).c_str() : "0, 0, 0, 0",
              second != nullptr ? (std::string(second->name) + "{" + sizes(second) + "}").c_str() : "", sizes(t).c_str());
  // From the first element to past the last: views have gaps.
  std::size_t bytes = ggml_type_size(t->type);
  for (int axis = 0; axis < GGML_MAX_DIMS; ++axis)
    bytes += static_cast<std::size_t>(t->ne[axis] - 1) * t->nb[axis];
  std::vector<char> data(bytes);
  ggml_backend_tensor_get(t, data.data(), 0, bytes);
  for (std::int64_t i3 = 0; i3 < t->ne[3]; ++i3) {
    for (std::int64_t i2 = 0; i2 < t->ne[2]; ++i2) {
      for (std::int64_t i1 = 0; i1 < t->ne[1]; ++i1) {
        std::printf("[");
        for (std::int64_t i0 = 0; i0 < t->ne[0]; ++i0) {
          const std::size_t at = static_cast<std::size_t>(i0) * t->nb[0] + static_cast<std::size_t>(i1) * t->nb[1] +
                                 static_cast<std::size_t>(i2) * t->nb[2] + static_cast<std::size_t>(i3) * t->nb[3];
          std::printf("%s%.9g", i0 > 0 ? ", " : "", element(data.data() + at, t->type));
        }
        std::printf(" ],\n");
      }
    }
    std::printf("sum = whole\n");
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) fail("usage: eval-callback MODEL.gguf DECODE_STEPS FLASH < ids");
  std::vector<llama_token> ids;
  for (llama_token id = 0; std::cin >> id;)
    ids.push_back(id);
  if (ids.empty()) fail("no ids");
  llama_backend_init();
  llama_log_set([](ggml_log_level level, const char* text, void*) {
    if (level == GGML_LOG_LEVEL_ERROR) std::cerr << text;
  }, nullptr);
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) fail("llama.cpp does not load it");
  const int steps = std::atoi(argv[2]);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<std::uint32_t>(ids.size()) + static_cast<std::uint32_t>(steps) + 8;
  params.n_batch = params.n_ubatch = params.n_ctx;
  params.n_threads = params.n_threads_batch = 1;
  params.flash_attn_type = std::atoi(argv[3]) != 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.cb_eval = print;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) fail("llama.cpp makes no context for it");
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::vector<llama_token> fed = ids;
  for (int step = 0, position = 0; step <= steps; ++step) {
    const auto count = static_cast<int>(fed.size());
    llama_batch batch = llama_batch_init(count, 0, 1);
    batch.n_tokens = count;
    for (int i = 0; i < count; ++i) {
      batch.token[i] = fed[static_cast<std::size_t>(i)];
      batch.pos[i] = position + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;  // so that the last layer's end is computed of all
    }
    if (llama_decode(context, batch) != 0) fail("llama_decode failed");
    const float* row = llama_get_logits_ith(context, count - 1);
    position += count;
    fed = {static_cast<llama_token>(std::max_element(row, row + vocabulary) - row)};
    if (step < steps) ids.push_back(fed[0]);
    llama_batch_free(batch);
  }
  std::printf("number of input tokens = %zu\n", ids.size());
  for (const llama_token id : ids)
    std::printf("  %d\n", id);
  llama_free(context);
  llama_model_free(model);
}
