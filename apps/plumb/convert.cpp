// plumb convert: any model as a GGUF file.
#include "engine/convert.h"

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <vector>

#include "support/command.h"
#include "support/json.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb convert path/to/model model.gguf --type Q4_K_M
  plumb convert model-f32.gguf model-q8.gguf --type Q8_0

MODEL is a folder with safetensors, or a GGUF file. TYPE is F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q4_K_M, Q5_K_M or Q6_K,
mixed as llama-quantize mixes them: norms and routers stay F32, the output gets more bits. OUT is written under a temporary name
and renamed at the end, so it is never half a file. docs/quantisation.md says how exact each type is, docs/gguf.md what
llama.cpp makes of the files.
)";

constexpr int kBarWidth = 40;
constexpr std::chrono::milliseconds kBarInterval{100};

struct Options {
  std::string model;
  std::string out;
  std::optional<std::string> type;
  std::int64_t threads = 0;
  bool json = false;
};

void declare_convert(Arguments& arguments, Options& options) {
  arguments.required("MODEL", options.model, "A folder, or a GGUF file");
  arguments.required("OUT", options.out, "The GGUF file to write");
  arguments.text("--type", "TYPE", options.type,
                 "How weights are stored: " + gguf_file_type_names() + " (BF16)");
  arguments.integer("--threads", options.threads, 0, 1024, "Threads; 0: one per processor");
  arguments.flag("--json", options.json, "Print what was written as JSON");
}

// "[=====>    ] 42 %  1.3 of 3.1 GB".
std::string bar(std::uint64_t done, std::uint64_t total) {
  constexpr double kGigabyte = 1e9;
  const double share = total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<std::size_t>(share * kBarWidth);
  return fmt::format("[{:<{}}] {:3.0f} %  {:.2f} of {:.2f} GB", std::string(filled, '='), kBarWidth,
                     share * 100, static_cast<double>(done) / kGigabyte,
                     static_cast<double>(total) / kGigabyte);
}

Result<int> execute(const Options& options) {
  const std::string name = options.type.value_or("BF16");
  const auto type = gguf_file_type(name);
  if (!type) {
    return Error{ErrorCode::kInvalidArgument, fmt::format("--type '{}' is not known; there are {}",
                                                          name, gguf_file_type_names())};
  }
  std::error_code ignored;
  if (!std::filesystem::exists(options.model, ignored)) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("{}: there is no such file or folder", options.model)};
  }
  const Cancellable cancellable;
  std::uint64_t bytes = 0;
  auto shown = std::chrono::steady_clock::now() - kBarInterval;
  std::vector<std::string> caveats;
  const Status status = convert_to_gguf(
      options.model, options.out,
      {.type = *type,
       .threads = static_cast<int>(options.threads),
       .caveat = [&](const std::string& sentence) { caveats.push_back(sentence); }},
      [&](std::uint64_t done, std::uint64_t total) {
        bytes = total;
        const auto now = std::chrono::steady_clock::now();
        if (now - shown >= kBarInterval) {
          show_progress(bar(done, total));
          shown = now;
        }
        return !interrupted();
      });
  clear_progress();
  if (!status.ok()) return status.error();
  for (const std::string& sentence : caveats)
    print_note(fmt::format("{}: {}", options.out, sentence));
  if (options.json) {
    PLUMB_TRY_STATUS(print_json({{"file", options.out}, {"type", name}, {"tensor_bytes", bytes}}));
  } else {
    print_statistics(fmt::format("{}: {}, {} bytes of tensors", options.out, name, bytes));
  }
  return kDone;
}

}  // namespace

Command convert_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "convert",
          .place = 6,
          .summary = "Write a model as a GGUF file",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_convert(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
