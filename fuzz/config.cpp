// config.json from any bytes, and everything that Config says about it.
#include "io/config.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto parsed = plumb::Config::parse({reinterpret_cast<const char*>(data), size}, "input");
  if (!parsed.ok()) return 0;
  plumb::Config config = std::move(parsed).value();
  if (!config
           .apply_defaults(
               R"({"rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_local_base_freq": 100})")
           .ok())
    return 0;
  (void)config.integers("mlp_only_layers");
  (void)config.texts("layer_types");
  (void)config.maybe_number("final_logit_softcapping");
  (void)config.json_of("quantization_config");
  (void)config.unread();
  (void)config.status().ok();
  return 0;
}
