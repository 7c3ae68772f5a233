// Options that several commands share, and what they lead to: a model ready to run, a prompt as ids.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model.h"
#include "support/arguments.h"

namespace plumb {

struct EngineOptions {
  std::optional<std::string> config;
  std::optional<std::string> precision;
  std::int64_t threads = 0;
  std::int64_t chunk = 0;
};

void declare(Arguments& arguments, EngineOptions& options);

// Which executor runs, for commands that let one choose; the others use the reference executor. Where nothing is chosen it is
// `usual`, and the reference executor where a precision is: only that one has several.
struct ExecutorChoice {
  std::string usual = "reference";
  std::optional<std::string> executor = {};
  std::optional<std::string> isa = {};
  std::optional<std::string> activations = {};
  std::optional<std::string> cache_type = {};
};

void declare(Arguments& arguments, ExecutorChoice& choice);

// The model does not move: the executor refers to it.
struct Session {
  std::unique_ptr<const Model> model;
  std::unique_ptr<Executor> executor;
  ExecutorKind kind;
  std::int64_t chunk;  // tokens of a prompt to compute together: as asked for, or few enough that Ctrl-C is heard soon
};

// Notes on standard error what the model's files say and no stage reads.
Result<Session> open_session(const std::filesystem::path& path, const EngineOptions& options,
                             const ExecutorChoice& choice = {});

// The tokenizer alone: MODEL needs no weights for it.
Result<std::shared_ptr<const Tokenizer>> open_tokenizer(const std::filesystem::path& path);

// The model that comes with the program.
Result<std::filesystem::path> builtin_model();

bool exists(const std::string& path);

struct IdsOptions {
  std::optional<std::string> ids;
  std::optional<std::string> file;

  bool given() const { return ids || file; }
};

void declare(Arguments& arguments, IdsOptions& options);
Result<std::vector<TokenId>> read_ids(const IdsOptions& options);

// "1,2,3", "1 2 3", "[1, 2, 3]" or an object that holds such a list as "ids"; `where` names it in errors.
Result<std::vector<TokenId>> parse_ids(const std::string& text, const std::string& where);

struct EncodingOptions {
  bool parse_special = false;
  bool no_bos = false;
};

void declare(Arguments& arguments, EncodingOptions& options);

// An error when `tokenizer` is null.
Result<std::vector<TokenId>> encode(const Tokenizer* tokenizer, const std::string& text,
                                    const EncodingOptions& options);

struct PromptOptions {
  IdsOptions ids;
  EncodingOptions encoding;
};

void declare(Arguments& arguments, PromptOptions& options);

struct Prompt {
  std::optional<std::string> text;  // nothing when the prompt was given as ids
  std::vector<TokenId> ids;
};

// Whether so many tokens are within max_position_embeddings.
bool fits_positions(const Model& model, std::size_t tokens);

// Notes on standard error that they are not.
void note_length(const Model& model, std::size_t tokens);

// `text` is the PROMPT of the command line. Without it and without ids the prompt is standard input, less one line end at its
// end. At least one id; notes a prompt that is longer than the model was made for.
Result<Prompt> read_prompt(const std::optional<std::string>& text, const PromptOptions& options,
                           const Model& model);

// The whole of a file, a pipe too; "-" is standard input.
Result<std::string> read_text(const std::string& path);

// Standard input as a person types it: without the last line's end.
Result<std::string> read_typed_text();

}  // namespace plumb
