// Decoders of tokenizer.json: the pieces of ids into text (`tokenizers`, src/decoders).
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/invalid_bytes.h"
#include "text/json.h"
#include "text/split_pattern.h"

namespace plumb {

class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;

  virtual void apply(std::vector<std::string>& pieces, InvalidBytes invalid) const = 0;
};

using DecoderPtr = std::unique_ptr<const Decoder>;

// An unknown type is an error that names it.
Result<DecoderPtr> read_decoder(const Json& json);

DecoderPtr make_byte_level_decoder();
DecoderPtr make_byte_fallback_decoder();
DecoderPtr make_fuse_decoder();
DecoderPtr make_replace_decoder(SplitPattern pattern, std::string_view content);
DecoderPtr make_strip_decoder(std::string_view content, std::int64_t start, std::int64_t stop);
DecoderPtr make_word_piece_decoder(std::string_view prefix, bool cleanup);
DecoderPtr make_decoder_sequence(std::vector<DecoderPtr> parts);

}  // namespace plumb
