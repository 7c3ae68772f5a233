// What the words of an engine's name for a value say of the stage that it is: "blk.0.Qcur_roped" and "layers.0.attn.q_rope".
#pragma once
#include <string>

namespace plumb {

// The share of the words that two names have in common, 0 to 1; layers' numbers and words that every name has do not count.
double shared_words(const std::string& a, const std::string& b);

}  // namespace plumb
