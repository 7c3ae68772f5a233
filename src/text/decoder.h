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

class TokenDecoder {
 public:
  TokenDecoder() = default;
  TokenDecoder(const TokenDecoder&) = delete;
  TokenDecoder& operator=(const TokenDecoder&) = delete;
  virtual ~TokenDecoder() = default;

  virtual void apply(std::vector<std::string>& pieces, InvalidBytes invalid) const = 0;
};

using TokenDecoderPtr = std::unique_ptr<const TokenDecoder>;

// An unknown type is an error that names it.
Result<TokenDecoderPtr> read_decoder(const Json& json);

TokenDecoderPtr make_byte_level_decoder();
TokenDecoderPtr make_byte_fallback_decoder();
TokenDecoderPtr make_fuse_decoder();
TokenDecoderPtr make_replace_decoder(SplitPattern pattern, std::string_view content);
TokenDecoderPtr make_strip_decoder(std::string_view content, std::int64_t start, std::int64_t stop);
TokenDecoderPtr make_word_piece_decoder(std::string_view prefix, bool cleanup);
TokenDecoderPtr make_decoder_sequence(std::vector<TokenDecoderPtr> parts);

}  // namespace plumb
