// plumb logits: what the model expects after each token of a prompt.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/sampler.h"
#include "io/safetensors_writer.h"
#include "support/command.h"
#include "support/json.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

constexpr std::string_view kDetails = R"(Examples:
  plumb logits path/to/model "The capital of France is" --top 3
  plumb logits path/to/model --ids 1,450,7483 --precision fp64 --json
  plumb logits path/to/model "Hello" --save hello.safetensors

For each position the K likeliest next tokens, with their logits and the logarithms of their probabilities. --json prints
{"ids", "positions": [{"position", "id", "piece", "top": [{"id", "piece", "logit", "logprob"}]}]}. --save writes the tensors
ids (I32 [n]) and logits (F32 [n, vocab]); alone, without --top or --json, it prints nothing.
)";

struct Options {
  std::string model;
  std::optional<std::string> prompt;
  PromptOptions reading;
  EngineOptions engine;
  ExecutorChoice choice;
  std::int64_t top = 0;
  std::optional<std::string> save;
  bool json = false;
};

constexpr std::int64_t kUsualTop = 5;

void declare_logits(Arguments& arguments, Options& options) {
  arguments.required("MODEL", options.model, "A folder or file");
  arguments.positional("PROMPT", options.prompt, "The text; standard input when left out");
  declare(arguments, options.reading);
  declare(arguments, options.engine);
  declare(arguments, options.choice);
  arguments.heading("Output");
  arguments.integer("--top", options.top, 0, std::numeric_limits<std::int32_t>::max(),
                    "Tokens shown at each position; 0: 5, or none with --save");
  arguments.text("--save", "FILE", options.save, "Write all logits to a safetensors file");
  arguments.flag("--json", options.json, "Print JSON");
}

struct Choice {
  TokenId id;
  double logit;
  double logprob;
};

// Likeliest first, equals by id.
std::vector<Choice> top_choices(std::span<const double> logits, std::int64_t top) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto logit = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
  const auto end = ids.begin() + std::min(top, std::ssize(ids));
  std::partial_sort(ids.begin(), end, ids.end(), [&](TokenId a, TokenId b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  });
  const std::vector<double> logprobs = log_softmax(logits);
  std::vector<Choice> choices;
  for (auto id = ids.begin(); id != end; ++id) {
    choices.push_back(
        {.id = *id, .logit = logit(*id), .logprob = logprobs[static_cast<std::size_t>(*id)]});
  }
  return choices;
}

// The vocabulary entry; null where there is none.
Json piece(const Model& model, TokenId id) {
  if (model.tokenizer == nullptr) return nullptr;
  const auto entry = model.tokenizer->piece(id);
  return entry ? Json(*entry) : Json();
}

Status print_table(const Model& model, const Prompt& prompt, const Tensor& logits,
                   std::int64_t top) {
  for (std::int64_t row = 0; row < logits.tokens(); ++row) {
    const TokenId id = prompt.ids[static_cast<std::size_t>(row)];
    std::string text = fmt::format("position {}: id {} {}\n  {:>8} {:>12} {:>12}  piece\n", row, id,
                                   json_text(piece(model, id)), "id", "logit", "logprob");
    for (const Choice& choice : top_choices(logits.row(row), top)) {
      text += fmt::format("  {:>8} {:>12.6f} {:>12.6f}  {}\n", choice.id, choice.logit,
                          choice.logprob, json_text(piece(model, choice.id)));
    }
    PLUMB_TRY_STATUS(print(text));
  }
  return {};
}

Status print_positions(const Model& model, const Prompt& prompt, const Tensor& logits,
                       std::int64_t top) {
  Json positions = Json::array();
  for (std::int64_t row = 0; row < logits.tokens(); ++row) {
    const TokenId id = prompt.ids[static_cast<std::size_t>(row)];
    Json choices = Json::array();
    for (const Choice& choice : top_choices(logits.row(row), top)) {
      choices.push_back({{"id", choice.id},
                         {"piece", piece(model, choice.id)},
                         {"logit", choice.logit},
                         {"logprob", choice.logprob}});
    }
    positions.push_back(
        {{"position", row}, {"id", id}, {"piece", piece(model, id)}, {"top", std::move(choices)}});
  }
  return print_json({{"ids", prompt.ids}, {"positions", std::move(positions)}});
}

Status save(const std::string& path, const Prompt& prompt, const Tensor& logits) {
  PLUMB_TRY(auto file, SafetensorsWriter::create(
                           path,
                           {{.name = "ids", .dtype = DType::kI32, .shape = {logits.tokens()}},
                            {.name = "logits", .dtype = DType::kF32, .shape = logits.shape}},
                           {}));
  const std::vector<double> ids(prompt.ids.begin(), prompt.ids.end());
  PLUMB_TRY_STATUS(file.write(0, ids));
  PLUMB_TRY_STATUS(file.write(1, logits.data));
  return file.finish();
}

Result<int> execute(const Options& options) {
  PLUMB_TRY(const Session session, open_session(options.model, options.engine, options.choice));
  PLUMB_TRY(const Prompt prompt, read_prompt(options.prompt, options.reading, *session.model));
  const Cancellable cancellable;
  const auto progress = [&](std::int64_t done) {
    if (done < std::ssize(prompt.ids)) {
      show_progress(fmt::format("{} of {} tokens", done, prompt.ids.size()));
    }
    return !interrupted();
  };
  const auto sequence = session.executor->start();
  PLUMB_TRY(const Tensor logits, session.executor->forward(*sequence, prompt.ids,
                                                           {.rows = LogitRows::kAll,
                                                            .chunk = session.chunk,
                                                            .observer = nullptr,
                                                            .progress = progress}));
  if (options.save) PLUMB_TRY_STATUS(save(*options.save, prompt, logits));
  const bool silent = options.save && options.top == 0 && !options.json;
  const std::int64_t top = options.top > 0 ? options.top : kUsualTop;
  if (options.json) {
    PLUMB_TRY_STATUS(print_positions(*session.model, prompt, logits, top));
  } else if (!silent) {
    PLUMB_TRY_STATUS(print_table(*session.model, prompt, logits, top));
  }
  return kDone;
}

}  // namespace

Command logits_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "logits",
          .place = 2,
          .summary = "Show what the model expects after each token",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_logits(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
