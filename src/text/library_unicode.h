// Character sets as the `tokenizers` package 0.23 has them where it does not use Oniguruma's Unicode 16: its crate
// unicode_categories is of Unicode 8, unicode-normalization-alignments of Unicode 9, and Rust's own tables of Unicode 17.
#pragma once
#include <unicode/uniset.h>

#include <string>

#include "text/unicode.h"

namespace plumb {

const icu::UnicodeSet& normalization_alphabet();  // what normal forms know: assigned in Unicode 9
const CharSet&
library_punctuation();  // Punctuation, BertPreTokenizer: ASCII punctuation, and P of Unicode 8
const CharSet& library_marks();  // StripAccents: M of Unicode 9
const CharSet& bert_marks();     // BertNormalizer's strip_accents: Mn of Unicode 8
const CharSet&
bert_controls();  // BertNormalizer's clean_text: Cc, Cf and Co of Unicode 8, without \t \n \r
const CharSet& rust_numbers();     // Digits: N of Unicode 17
const CharSet& rust_word();        // \w of the crate regex: without the numbers that Oniguruma adds
const CharSet& newly_extending();  // characters of Unicode 16 and 17 that extend a grapheme cluster
CodePoint rust_lowercase(CodePoint code);  // simple lower case of Unicode 17

}  // namespace plumb
