// The steps between logits and an id. Reference: transformers, generation/logits_process.py: TemperatureLogitsWarper,
// TopKLogitsWarper (logits equal to the k-th stay), TopPLogitsWarper (sums from the least likely up; what sums to at most
// 1 - p goes), MinPLogitsWarper (below min_p times the largest goes).
#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace plumb {
namespace {

struct Entry {
  std::int32_t id;
  double logit;
  double weight;  // exp((logit - largest) / temperature): probability up to a common factor
};

// Likeliest first. Equals as the reference's ascending sort leaves them: the lower id is the first that top-p removes.
bool likelier(const Entry& a, const Entry& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id > b.id;
}

Status check_finite(std::span<const double> logits) {
  if (logits.empty()) return Error{ErrorCode::kInternal, "there are no logits to choose from"};
  const auto bad = std::find_if_not(logits.begin(), logits.end(),
                                    [](double logit) { return std::isfinite(logit); });
  if (bad == logits.end()) return {};
  return Error{ErrorCode::kInternal,
               fmt::format("the logit of id {} is {}, which is not a finite number",
                           bad - logits.begin(), *bad)};
}

// Keeps the k likeliest and whatever equals the last of them; leaves them sorted.
void keep_top_k(std::vector<Entry>& entries, std::int64_t k) {
  if (k >= std::ssize(entries)) return;
  std::nth_element(entries.begin(), entries.begin() + (k - 1), entries.end(), likelier);
  const double least = entries[static_cast<std::size_t>(k - 1)].logit;
  std::erase_if(entries, [least](const Entry& entry) { return entry.logit < least; });
}

void keep_top_p(std::vector<Entry>& entries, double top_p) {
  std::sort(entries.begin(), entries.end(), likelier);
  double total = 0;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry)
    total += entry->weight;
  double sum = 0;
  while (entries.size() > 1) {
    sum += entries.back().weight;
    if (sum / total > 1 - top_p) break;
    entries.pop_back();
  }
}

Status out_of_range(const char* name, const std::string& value, const char* limits) {
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("{} is {}, but must be {}", name, value, limits)};
}

}  // namespace

Status SamplerOptions::check() const {
  if (!std::isfinite(temperature) || temperature < 0) {
    return out_of_range("temperature", fmt::to_string(temperature), "a number from 0 (greedy) up");
  }
  if (top_k < 0)
    return out_of_range("top-k", fmt::to_string(top_k), "a whole number from 0 (all) up");
  if (!(top_p >= 0 && top_p <= 1))
    return out_of_range("top-p", fmt::to_string(top_p), "from 0 to 1");
  if (!(min_p >= 0 && min_p <= 1))
    return out_of_range("min-p", fmt::to_string(min_p), "from 0 to 1");
  return {};
}

Result<std::vector<Candidate>> candidates(std::span<const double> logits,
                                          const SamplerOptions& options) {
  PLUMB_TRY_STATUS(check_finite(logits));
  const std::int32_t best = argmax(logits);
  if (options.temperature == 0) return std::vector<Candidate>{{.id = best, .probability = 1}};
  const double largest = logits[static_cast<std::size_t>(best)];
  std::vector<Entry> entries;
  entries.reserve(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    entries.push_back({.id = static_cast<std::int32_t>(i),
                       .logit = logits[i],
                       .weight = std::exp((logits[i] - largest) / options.temperature)});
  }
  if (options.top_k > 0) keep_top_k(entries, options.top_k);
  if (options.top_p < 1) keep_top_p(entries, options.top_p);
  // The largest weight is 1, so the reference's threshold, min_p times the largest probability, is min_p here.
  std::erase_if(entries, [&](const Entry& entry) { return entry.weight < options.min_p; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.id < b.id; });
  double total = 0;
  for (const Entry& entry : entries)
    total += entry.weight;
  std::vector<Candidate> kept;
  kept.reserve(entries.size());
  for (const Entry& entry : entries) {
    kept.push_back({.id = entry.id, .probability = entry.weight / total});
  }
  return kept;
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {}

Result<std::int32_t> Sampler::choose(std::span<const double> logits) {
  PLUMB_TRY(const auto kept, candidates(logits, options_));
  if (kept.size() == 1) return kept.front().id;
  // The standard fixes what mt19937_64 yields but not what its distributions do with it: 53 bits make a number in [0, 1).
  const double draw = static_cast<double>(random_() >> 11) * 0x1p-53;
  double sum = 0;
  std::int32_t chosen = kept.front().id;
  for (const Candidate& candidate : kept) {
    if (candidate.probability == 0) continue;
    chosen =
        candidate
            .id;  // the last one that can be drawn, should rounding leave the sum below the draw
    sum += candidate.probability;
    if (draw < sum) break;
  }
  return chosen;
}

std::int32_t argmax(std::span<const double> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<double> log_softmax(std::span<const double> logits) {
  if (logits.empty()) return {};
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const double logit : logits)
    total += std::exp(logit - largest);
  const double log_total = std::log(total);
  std::vector<double> result;
  result.reserve(logits.size());
  for (const double logit : logits)
    result.push_back(logit - largest - log_total);
  return result;
}

}  // namespace plumb
