// How an architecture's GGUF files differ from its canonical names and keys, as data: llama.cpp's conventions (conversion/*.py,
// gguf/constants.py). names.cpp has what all architectures share.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace plumb {

class Config;

// A pattern of canonical names and where such a parameter lies; {i} is the layer, {e} the expert. A stored name without {e}
// for a name with it is a stack of experts.
struct GgufName {
  std::string_view name;
  std::string_view stored;
  // Where given: the parameter is rows of a stored matrix that joins several. Its first row in units of its own row count;
  // negative from the end. Those from the beginning come before those from the end.
  std::optional<int> rows = {};
};

// A metadata key without the architecture's prefix, and the key of config.json that it is.
struct GgufKey {
  std::string_view key;     // "attention.head_count"
  std::string_view config;  // "num_attention_heads"
  bool is_number = false;   // stored as float32, not as a count
};

struct GgufConventions {
  std::string_view architecture = "";  // general.architecture; "": no GGUF form
  bool experts = false;  // of architectures that share the name, this one has an expert_count
  bool window = false;   // of those that are left, this one has a sliding window in every layer
  bool rotary_pairs = false;    // rows of q and k are stored in interleaved order within each head
  bool norms_plus_one = false;  // norm weights are stored as 1 + w
  bool window_shares_base =
      false;  // without rope.freq_base_swa, layers with a window rotate by rope.freq_base
  // Gemma: with this many layers query_pre_attn_scalar is hidden_size / num_attention_heads, with others head_dim; 0: no such
  // key. llama.cpp derives it so; plumb's own files say it as well.
  std::int64_t scale_from_width = 0;
  std::vector<GgufName> names = {};  // looked up before the shared ones
  std::vector<GgufKey> keys = {};
  std::string_view constants =
      "{}";  // a JSON object: keys of config.json that such a file implies and does not say
  std::string_view refused_key = "";  // a metadata key that changes what the tensors mean
  // An error where files of this architecture cannot say what the configuration says.
  Status (*expressible)(const Config& config) = nullptr;
};

}  // namespace plumb
