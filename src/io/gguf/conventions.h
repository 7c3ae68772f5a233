// How an architecture's GGUF files differ from its canonical names and keys, as data: llama.cpp's conventions (conversion/*.py,
// gguf/constants.py). names.cpp has what all architectures share.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "io/weight_map.h"
#include "io/weight_orders.h"

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
  bool squeezed = false;        // a convolution [channels, 1, taps] is stored as [channels, taps]
  bool minus_exp = false;       // stored as -exp(w)
  std::optional<HeadTiles> tiles = {};  // value heads that are stored tiled
  bool tiled_columns = false;   // they are columns, not rows
};

// A metadata key without the architecture's prefix, and the key of config.json that it is.
struct GgufKey {
  enum class Type {
    kCount,           // uint32
    kNumber,          // float32
    kFlag,            // bool
    kCounts,          // a list of int32
    kNumberOfLayers,  // one number as a list of float32, for each layer
  };

  std::string_view key;     // "attention.head_count"
  std::string_view config;  // "num_attention_heads"
  Type type = Type::kCount;
  std::string_view plus = "";   // another key of config.json: the value is the sum of both
  std::string_view times = "";  // or the product
  bool derived = false;         // written; of no matter where a file is read, because other keys say it
};

// A key that is written with this value. `required`: a file without it, or with another value, is of another computation.
struct GgufFixed {
  std::string_view key;
  std::uint32_t value;
  bool required;
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
  // Names whose forms take sizes of the configuration; looked up before all others.
  std::vector<GgufName> (*sized_names)(const Config& config) = nullptr;
  // Parameters that lie in several tensors.
  std::vector<SplitRule> (*splits)(const Config& config) = nullptr;
  std::vector<GgufKey> keys = {};  // looked up before the shared ones
  std::vector<GgufFixed> fixed = {};
  std::vector<std::string_view> required = {};  // keys without which a file is of an older form
  std::string_view constants =
      "{}";  // a JSON object: keys of config.json that such a file implies and does not say
  std::string_view absent = "{}";  // and those for which it stands where it does not say
  bool recurrent = false;  // attention.recurrent_layers tells layers without attention
  // rope.dimension_sections where the configuration has no mrope_section; empty: no such key.
  std::vector<std::int32_t> rope_sections = {};
  // rope.scaling.yarn_log_multiplier is this times mscale_all_dim, and means that mscale is the same; 0: no such key.
  float yarn_log_multiplier = 0;
  std::string_view refused_key = "";  // a metadata key that changes what the tensors mean
  // Keys of config.json in the form that a file can say, as a JSON object; null: the key does not count. For architectures
  // whose configurations have several forms.
  std::string (*said_as)(const Config& config) = nullptr;
  // An error where files of this architecture cannot say what the configuration says.
  Status (*expressible)(const Config& config) = nullptr;
  // What llama.cpp does not load, or computes otherwise, of what such a file says: whole sentences.
  std::vector<std::string> (*caveats)(const Config& config) = nullptr;
};

}  // namespace plumb
