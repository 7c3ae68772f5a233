// Rotary frequencies: from a configuration's parameters to one inverse frequency per pair of
// channels. Reference: transformers, modeling_rope_utils.py.
#pragma once
#include <cstdint>
#include <vector>

#include "graph/conventions.h"
#include "io/config.h"

namespace plumb {

// The frequencies that `parameters` describe. Complaints about missing or impossible values go to
// config.reject().
RopeFrequencies rope_frequencies(const Config& config, const RopeParameters& parameters);

// What multiplies cos and sin (yarn, longrope); 1 for the other scalings.
double rope_attention_factor(const Config& config, const RopeParameters& parameters);

// inv_freq [dims / 2] for a sequence whose length, as far as it is known when a forward pass
// starts, is `length` tokens; only dynamic scaling and longrope depend on it. `Real` is the
// arithmetic: float rounds where the reference's tensors do.
template <class Real>
std::vector<double> inverse_frequencies(const RopeFrequencies& frequencies, std::int64_t dims,
                                        std::int64_t length);

extern template std::vector<double> inverse_frequencies<float>(const RopeFrequencies&, std::int64_t,
                                                               std::int64_t);
extern template std::vector<double> inverse_frequencies<double>(const RopeFrequencies&,
                                                                std::int64_t, std::int64_t);

}  // namespace plumb
