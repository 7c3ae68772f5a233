// Keys of config.json: transformers, configuration_utils.py and the attribute_map of its
// configuration classes.
#include "io/config_keys.h"

#include <algorithm>
#include <array>
#include <utility>

namespace plumb {
namespace {

using namespace std::string_view_literals;

constexpr std::array kAliases = {
    std::pair("num_local_experts"sv, "num_experts"sv),
    std::pair("n_routed_experts"sv, "num_experts"sv),
    std::pair("torch_dtype"sv, "dtype"sv),
};

// Sorted, for the search.
constexpr std::array kHarmless = {
    "_attn_implementation"sv,
    "_attn_implementation_autoset"sv,
    "_name_or_path"sv,
    "_sliding_window_pattern"sv,  // layer_types says what it led to
    "architectures"sv,
    "attention_dropout"sv,
    "attn_pdrop"sv,
    "audio_config"sv,
    "audio_token_id"sv,
    "auto_map"sv,
    "aux_loss_alpha"sv,
    "begin_suppress_tokens"sv,
    "boi_token_index"sv,
    "bos_token_id"sv,
    "chunk_size_feed_forward"sv,
    "classifier_dropout"sv,
    "decoder_start_token_id"sv,
    "dtype"sv,
    "embd_pdrop"sv,
    "eoi_token_index"sv,
    "eos_token_id"sv,
    "ep_size"sv,
    "expert_dtype"sv,  // the tensors say how they are stored
    "experts_per_token"sv,  // gpt-oss also says num_experts_per_tok
    "finetuning_task"sv,
    "forced_bos_token_id"sv,
    "forced_eos_token_id"sv,
    "hidden_dropout"sv,
    "hidden_dropout_prob"sv,
    "id2label"sv,
    "image_token_id"sv,
    "image_token_index"sv,
    "initial_context_length"sv,  // gpt-oss: rope_scaling says it
    "initializer_factor"sv,
    "initializer_range"sv,
    "is_decoder"sv,
    "is_encoder_decoder"sv,
    "label2id"sv,
    "language_model_only"sv,
    "max_length"sv,
    "max_window_layers"sv,  // layer_types says what it led to; read where there are none
    "mm_tokens_per_image"sv,
    "model_type"sv,
    "num_mtp_layers"sv,  // layers that predict further tokens; never read
    "num_nextn_predict_layers"sv,
    "num_return_sequences"sv,
    "output_attentions"sv,
    "output_hidden_states"sv,
    "output_router_logits"sv,
    "output_scores"sv,
    "pad_token_id"sv,
    "prefix"sv,
    "pretraining_tp"sv,
    "problem_type"sv,
    "pruned_heads"sv,
    "resid_pdrop"sv,
    "return_dict"sv,
    "return_dict_in_generate"sv,
    "router_aux_loss_coef"sv,
    "router_jitter_noise"sv,
    "sep_token_id"sv,
    "seq_aux"sv,
    "task_specific_params"sv,
    "tf_legacy_loss"sv,
    "tokenizer_class"sv,
    "torchscript"sv,
    "transformers_version"sv,
    "unsloth_fixed"sv,
    "unsloth_version"sv,
    "use_bfloat16"sv,
    "use_cache"sv,
    "video_token_id"sv,
    "vision_config"sv,
    "vision_end_token_id"sv,
    "vision_start_token_id"sv,
};
static_assert(std::is_sorted(kHarmless.begin(), kHarmless.end()));

}  // namespace

std::string_view canonical_key(std::string_view key) {
  for (const auto& [alias, canonical] : kAliases) {
    if (alias == key) return canonical;
  }
  return key;
}

bool is_harmless_key(std::string_view key) {
  return std::binary_search(kHarmless.begin(), kHarmless.end(), key);
}

}  // namespace plumb
