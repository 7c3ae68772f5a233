// How an engine may read a file's quantised weights otherwise: the order of nibbles, the zero of the codes, offsets, and which scale is whose.
// A reader is one piece of code for all tensors of a form, so a cause is tried on all of them at once.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "parity/computing.h"
#include "parity/more_hypotheses.h"
#include "parity/stored_codes.h"

namespace plumb {
namespace {

struct Reading {
  const char* row;
  const char* field;
  const char* cause;
  const char* expected;
  const char* found;
  bool (*concerns)(const StoredForm& form);
  void (*change)(const Weight& weight, const StoredForm& form, std::int64_t row, StoredRow& parts);
};

// Half bytes of a run in another order: place i takes what stands at from(i). Bits above the fourth are stored elsewhere and stay.
template <class From>
void reorder(const StoredForm& form, StoredRow& parts, From from) {
  constexpr int kHalf = 16;
  const std::vector<double> own = parts.codes;
  const auto number = [&](std::size_t i) { return static_cast<int>(own[i]) + form.zero; };
  for (std::size_t first = 0; first + form.run <= own.size(); first += form.run) {
    for (std::size_t i = 0; i < form.run; ++i) {
      const std::size_t taken = first + from(i);
      parts.codes[first + i] = form.bits > 4 ? number(first + i) / kHalf * kHalf + number(taken) % kHalf - form.zero : own[taken];
    }
  }
}

// Numbers as they are stored, without a sign, read by another rule.
template <class Read>
void read_numbers(const StoredForm& form, StoredRow& parts, Read read) {
  for (double& code : parts.codes)
    code = read(static_cast<int>(code) + form.zero);
}

template <class From>
void deal_scales(StoredRow& parts, From from) {
  const auto deal = [&](std::vector<double>& values) {
    const std::vector<double> own = values;
    for (std::size_t g = 0; g < own.size(); ++g)
      values[g] = own[std::min(from(g, own.size()), own.size() - 1)];
  };
  deal(parts.scales);
  deal(parts.offsets);
}

bool any(const StoredForm&) {
  return true;
}
bool in_groups(const StoredForm& form) {
  return form.group > 0;
}
bool nibbles(const StoredForm& form) {
  return form.run >= 2;
}
bool with_zero(const StoredForm& form) {
  return form.bits > 0 && form.zero > 0;
}
bool with_offsets(const StoredForm& form) {
  return form.offsets;
}
bool with_factor(const StoredForm& form) {
  return form.factor != 1;
}

const Reading kReadings[] = {
    {"20b", "weight.nibbles", "the two codes of each byte are exchanged", "low nibble first", "high nibble first", nibbles,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       const std::size_t half = form.run / 2;
       if (form.pairs) return reorder(form, parts, [](std::size_t i) { return i ^ 1U; });
       reorder(form, parts, [half](std::size_t i) { return (i + half) % (2 * half); });
     }},
    {"20b", "weight.nibbles", "codes are unpacked in the other layout: neighbours in a byte for the halves of a block, or the reverse", "as stored",
     "the other layout", nibbles,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       const std::size_t half = form.run / 2;
       // Byte b holds elements 2 b and 2 b + 1, or b and b + half.
       if (form.pairs) return reorder(form, parts, [half](std::size_t i) { return 2 * (i % half) + i / half; });
       reorder(form, parts, [half](std::size_t i) { return i / 2 + i % 2 * half; });
     }},
    {"20b", "weight.zero", "codes are taken without their zero being subtracted", "unsigned less the zero", "unsigned", with_zero,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) { read_numbers(form, parts, [](int u) { return u; }); }},
    {"20b", "weight.zero", "codes have the other sign rule: two's complement for offset binary, or the reverse", "as stored", "the other sign rule",
     with_zero,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       read_numbers(form, parts, [half = 1 << (form.bits - 1)](int u) { return (u ^ half) - half; });
     }},
    {"20b", "weight.zero", "signed bytes are read as unsigned ones", "signed", "unsigned bytes",
     [](const StoredForm& form) { return form.bits == 8; },
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       for (double& code : parts.codes)
         code += code < 0 ? 256 : 0;
     }},
    {"20b", "weight.zero", "the codes' zero is one too large", "the stored zero", "one more", [](const StoredForm& form) { return form.bits > 0; },
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       for (double& code : parts.codes)
         code -= 1;
     }},
    {"20b", "weight.zero", "the codes' zero is one too small", "the stored zero", "one less", [](const StoredForm& form) { return form.bits > 0; },
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       for (double& code : parts.codes)
         code += 1;
     }},
    {"20b", "weight.nibbles", "the codes' bits above the fourth are dropped", "all bits", "four bits",
     [](const StoredForm& form) { return form.bits == 5 || form.bits == 6; },
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       read_numbers(form, parts, [zero = form.zero](int u) { return u % 16 - zero; });
     }},
    {"20b", "weight.offsets", "the offsets beside the scales have the other sign", "as stored", "negated", with_offsets,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       for (double& offset : parts.offsets)
         offset = -offset;
     }},
    {"20b", "weight.offsets", "the offsets beside the scales are left out", "added", "none", with_offsets,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) { std::ranges::fill(parts.offsets, 0.0); }},
    {"20b", "weight.offsets", "the offsets are multiplied by the scales", "added", "times the scale", with_offsets,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       for (std::size_t g = 0; g < parts.offsets.size(); ++g)
         parts.offsets[g] *= parts.scales[g];
     }},
    {"20c", "weight.scales", "the scales are left out", "applied", "none", any,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) { std::ranges::fill(parts.scales, 1.0); }},
    {"20c", "weight.scales", "the scales divide where they should multiply", "multiply", "divide", any,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       for (double& scale : parts.scales)
         scale = scale == 0 ? 0 : form.factor * form.factor / scale;
     }},
    {"20c", "weight.scales", "the tensor's factor on the scales is left out", "applied", "none", with_factor,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       for (double& scale : parts.scales)
         scale /= form.factor;
     }},
    {"20c", "weight.scales", "the tensor's factor divides where it should multiply, or the reverse", "as stated", "inverted", with_factor,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       for (double& scale : parts.scales)
         scale /= form.factor * form.factor;
     }},
    {"20c", "weight.scales", "one scale serves twice as many elements", "each its own block's", "the first of two", in_groups,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       deal_scales(parts, [](std::size_t g, std::size_t) { return g / 2 * 2; });
     }},
    {"20c", "weight.scales", "one scale serves half as many elements", "each its own block's", "one for half a block", in_groups,
     [](const Weight&, const StoredForm& form, std::int64_t, StoredRow& parts) {
       // Element i takes scale 2 i / group: what is told by the codes, as the groups stay.
       const StoredRow own = parts;
       for (std::size_t i = 0; i < parts.codes.size(); ++i) {
         const std::size_t group = i / form.group;
         const std::size_t wrong = std::min(2 * i / form.group, own.scales.size() - 1);
         if (own.scales[group] != 0) parts.codes[i] *= own.scales[wrong] / own.scales[group];
       }
     }},
    {"20c", "weight.scales", "the first scale of a row serves all of it", "each its own block's", "the row's first", in_groups,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       deal_scales(parts, [](std::size_t, std::size_t) { return std::size_t{0}; });
     }},
    {"20e", "weight.scale_order", "the scales of neighbouring blocks are exchanged", "each its own block's", "the neighbour's", in_groups,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       deal_scales(parts, [](std::size_t g, std::size_t) { return g ^ 1U; });
     }},
    {"20e", "weight.scale_order", "each block has the scale of the block before it", "each its own block's", "the block before's", in_groups,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       deal_scales(parts, [](std::size_t g, std::size_t) { return g == 0 ? 0 : g - 1; });
     }},
    {"20e", "weight.scale_order", "each block has the scale of the block behind it", "each its own block's", "the block behind's", in_groups,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       deal_scales(parts, [](std::size_t g, std::size_t) { return g + 1; });
     }},
    {"20e", "weight.scale_order", "the scales of a row are in reversed order", "each its own block's", "from the last on", in_groups,
     [](const Weight&, const StoredForm&, std::int64_t, StoredRow& parts) {
       deal_scales(parts, [](std::size_t g, std::size_t n) { return n - 1 - g; });
     }},
};

// Reads the weights of a stage that are in a form otherwise.
bool misread(const BoundGraph& network, int index, const Reading& reading, const std::string& name, Patch& patch) {
  bool found = false;
  for (const int param : stage_at(network, index).params) {
    const WeightPtr& weight = network.weights[static_cast<std::size_t>(param)];
    auto form = stored_form(*weight);
    if (!form || form->name != name) continue;
    patch.weights[param] = misread_weight(weight, std::move(*form), reading.change);
    found = true;
  }
  return found;
}

}  // namespace

std::vector<Hypothesis> stored_hypotheses(const BoundGraph& network, int index) {
  std::vector<Hypothesis> list;
  std::set<std::string> known;
  for (const int param : stage_at(network, index).params) {
    const auto form = stored_form(*network.weights[static_cast<std::size_t>(param)]);
    if (!form || !known.insert(form->name).second) continue;
    for (const Reading& reading : kReadings) {
      if (!reading.concerns(*form)) continue;
      list.push_back({.row = reading.row,
                      .field = reading.field,
                      .cause = reading.cause,
                      .expected = std::string(reading.expected),
                      .found = fmt::format("{} ({})", reading.found, form->name),
                      .range = std::nullopt,
                      .apply =
                          [&reading, name = form->name](const BoundGraph& net, int target, double, Patch& patch) {
                            return misread(net, target, reading, name, patch);
                          },
                      .everywhere = true,
                      .rarity = 0.5});
    }
  }
  return list;
}

}  // namespace plumb
