// Two traces from any bytes, manifest and tensors of each, compared as `plumb compare` does; one alone is compared with itself.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "parity/compare.h"
#include "parity/compare_report.h"
#include "parts.h"

namespace {

std::optional<plumb::Trace> trace_of(std::string_view manifest, std::string_view tensors) {
  auto parsed = plumb::parse_trace_manifest(std::string(manifest), "input");
  if (!parsed.ok()) return std::nullopt;
  auto source = plumb::fuzz::MemorySource::read(tensors);
  if (source == nullptr) return std::nullopt;
  return plumb::Trace::of(std::move(parsed).value(), std::move(source));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto parts = plumb::fuzz::parts_of(data, size, 4);
  const auto a = trace_of(parts[0], parts[1]);
  if (!a) return 0;
  const bool alone = parts[2].empty();
  const auto b = alone ? std::nullopt : trace_of(parts[2], parts[3]);
  if (!alone && !b) return 0;
  const auto result = plumb::compare(*a, alone ? *a : *b, nullptr);
  if (!result.ok()) return 0;
  constexpr std::size_t kRows = 10;
  (void)plumb::compare_text(result.value(), kRows, true);
  (void)plumb::compare_json(result.value(), {.a = "a", .b = "b"});
  (void)plumb::compare_html(result.value(), {.a = "a", .b = "b"}, kRows, true);
  return 0;
}
