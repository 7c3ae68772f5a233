// plumb bench: how fast models run here, and how near that is to what the machine can do.
#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <fstream>

#include "engine/timing.h"
#include "engine/work.h"
#include "machine/ceilings.h"
#include "machine/features.h"
#include "support/bench_report.h"
#include "support/command.h"
#include "support/options.h"
#include "support/terminal.h"

namespace plumb {
namespace {

using machine::CeilingMeter;
using machine::Ceilings;

constexpr std::string_view kDetails = R"(Examples:
  plumb bench model.gguf
  plumb bench model.gguf other.gguf -p 512,4096 -n 64 -b 1,8 -t 1,2 -r 9
  plumb bench model.gguf -p 0 -n 32 -d 4096 -o json
  plumb bench model --executor reference -p 16
  plumb bench                                    the machine's ceilings alone

As llama-bench: pp512 feeds 512 random ids at once, tg64 feeds 64 one after the other; each repetition on new sequences, after
one that is not counted. t/s counts the tokens of all sequences; the median of the repetitions, with the lowest and the highest.

Before that it times the first token of a new process, and lays out all weights, which other commands do on the way, in a
quarter of each step's time. Beside each repetition it measures the machine: bytes read a second, and multiplications and additions a second with float32, bfloat16
and int8 operands, on as many threads. What is compared with them: the bytes of weights that a step must read (of experts those
that are chosen, on average), and the products with weights; the keys and values of attention are in neither. The column shows
the one that is nearer to its ceiling; JSON and CSV have both.
)";

struct Options {
  std::vector<std::string> models;
  std::optional<std::string> prompts;
  std::optional<std::string> generates;
  std::optional<std::string> batches;
  std::optional<std::string> depths;
  std::optional<std::string> threads;
  std::int64_t repetitions = 5;
  std::int64_t chunk = 256;
  std::optional<std::string> precision;
  ExecutorChoice choice = {.usual = "cpu"};
  std::optional<std::string> output;
  bool no_ceilings = false;
};

void declare_bench(Arguments& arguments, Options& options) {
  arguments.several("MODEL", options.models, "Folders or files");
  arguments.heading("What is timed");
  arguments.text("-p,--prompt", "N,… [512]", options.prompts, "Tokens of a prompt; 0: none");
  arguments.text("-n,--generate", "N,… [64]", options.generates, "Tokens generated; 0: none");
  arguments.text("-b,--batch", "N,… [1]", options.batches, "Sequences at once");
  arguments.text("-d,--depth", "N,… [0]", options.depths, "Tokens that a sequence holds before");
  arguments.integer("-r,--repetitions", options.repetitions, 1, 1'000'000, "Of each");
  arguments.heading("How it is computed");
  arguments.text("-t,--threads", "N,… [all]", options.threads, "0: one for each processor");
  arguments.integer("--chunk", options.chunk, 0, 1'000'000'000,
                    "Prompt tokens computed together; 0: all");
  arguments.text("--precision", "NAME [fp32]", options.precision,
                 "Of the reference executor: fp64, fp32, hf-bf16; plumb run --help has all");
  declare(arguments, options.choice);
  arguments.heading("Output");
  arguments.text("-o,--output", "FORM [md]", options.output, "md, json or csv");
  arguments.flag("--no-ceilings", options.no_ceilings, "Do not measure the machine");
}

Result<std::vector<std::int64_t>> numbers(const char* name, const std::string& text,
                                          std::int64_t lowest, std::int64_t highest) {
  std::vector<std::int64_t> found;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;;) {
    std::int64_t value = 0;
    const auto [stopped, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value < lowest || value > highest ||
        (stopped != end && *stopped != ',')) {
      return Error{
          ErrorCode::kInvalidArgument,
          fmt::format("{} must be whole numbers from {} to {} with commas between, not '{}'", name,
                      lowest, highest, text)};
    }
    found.push_back(value);
    if (stopped == end) return found;
    at = stopped + 1;
  }
}

struct Plan {
  std::vector<std::int64_t> threads;
  std::vector<TimedCase> cases;
};

Result<Plan> plan_of(const Options& options) {
  constexpr std::int64_t kMany = 1 << 20;
  Plan plan;
  PLUMB_TRY(plan.threads, numbers("--threads", options.threads.value_or("0"), 0, 1024));
  PLUMB_TRY(const auto prompts, numbers("--prompt", options.prompts.value_or("512"), 0, kMany));
  PLUMB_TRY(const auto generates,
            numbers("--generate", options.generates.value_or("64"), 0, kMany));
  PLUMB_TRY(const auto batches, numbers("--batch", options.batches.value_or("1"), 1, 4096));
  PLUMB_TRY(const auto depths, numbers("--depth", options.depths.value_or("0"), 0, kMany));
  const int all = machine::processor().cores;
  for (std::int64_t& threads : plan.threads)
    threads = threads == 0 ? all : threads;
  for (const std::int64_t sequences : batches) {
    for (const std::int64_t depth : depths) {
      const auto add = [&](std::int64_t prompt, std::int64_t generate) {
        if (prompt + generate == 0) return;
        plan.cases.push_back({.prompt = prompt,
                              .generate = generate,
                              .depth = depth,
                              .sequences = sequences,
                              .chunk = options.chunk});
      };
      for (const std::int64_t prompt : prompts)
        add(prompt, 0);
      for (const std::int64_t generate : generates)
        add(0, generate);
    }
  }
  return plan;
}

std::string name_of(const TimedCase& timed) {
  std::string name =
      timed.prompt > 0 ? fmt::format("pp{}", timed.prompt) : fmt::format("tg{}", timed.generate);
  if (timed.depth > 0) name += fmt::format(" @ d{}", timed.depth);
  if (timed.sequences > 1) name += fmt::format(", {} sequences", timed.sequences);
  return name;
}

// Bytes of this process that lie in memory; 0 where the system does not say.
struct Resident {
  std::uint64_t own = 0;   // anonymous
  std::uint64_t file = 0;  // pages of mapped files, which the system may drop
};

Resident resident_bytes() {
  Resident resident;
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::uint64_t kibibytes = 0;
    if (word == "RssAnon:" && status >> kibibytes) resident.own = kibibytes * 1024;
    if (word == "RssFile:" && status >> kibibytes) resident.file = kibibytes * 1024;
  }
  return resident;
}

// The ceilings of each thread count, all samples of the run.
class Machine {
 public:
  explicit Machine(bool measured) {
    if (measured) meter_ = std::make_unique<CeilingMeter>();
  }

  Ceilings measure(ThreadPool& pool) {
    if (meter_ == nullptr) return {};
    const Ceilings now = meter_->measure(pool);
    auto& samples = samples_[pool.threads()];
    samples.push_back(now);
    return now;
  }

  std::size_t bytes() const { return meter_ == nullptr ? 0 : meter_->buffer_bytes(); }

  std::vector<CeilingRow> rows() const {
    std::vector<CeilingRow> rows;
    for (const auto& entry : samples_) {
      const auto threads = entry.first;
      const auto& samples = entry.second;
      const auto add = [&](const char* name, const std::string& path, const char* unit,
                           double Ceilings::*which) {
        CeilingRow row{.threads = threads, .name = name, .path = path, .unit = unit, .samples = {}};
        for (const Ceilings& sample : samples)
          row.samples.push_back(sample.*which / 1e9);
        rows.push_back(std::move(row));
      };
      add("memory, 4 KiB pages, one stream", meter_->memory_path(), "GB/s",
          &Ceilings::memory_plain);
      add("memory, 2 MiB pages, 8 streams, prefetch", meter_->memory_path(), "GB/s",
          &Ceilings::memory);
      add("float32 products and sums", meter_->fp32_path(), "Gop/s", &Ceilings::fp32);
      add("bfloat16 products and sums", meter_->bf16_path(), "Gop/s", &Ceilings::bf16);
      add("int8 products and sums", meter_->int8_path(), "Gop/s", &Ceilings::int8);
    }
    return rows;
  }

 private:
  std::unique_ptr<const CeilingMeter> meter_;
  std::map<int, std::vector<Ceilings>> samples_;
};

double ceiling_of(const Ceilings& ceilings, ProductForm form) {
  if (form == ProductForm::kInt8) return ceilings.int8;
  return form == ProductForm::kBfloat16 ? ceilings.bf16 : ceilings.fp32;
}

// Repetitions of one case, each with the better of the ceilings measured before and after it.
class Bench {
 public:
  Bench(const Options& options, Machine& machine) : options_(options), machine_(machine) {}

  Status run(const std::string& path, std::int64_t threads, const std::vector<TimedCase>& cases,
             BenchReport& report) {
    ThreadPool pool(static_cast<int>(threads));
    const auto opened = std::chrono::steady_clock::now();
    PLUMB_TRY(
        const Session session,
        open_session(path,
                     {.config = std::nullopt, .precision = options_.precision, .threads = threads},
                     options_.choice));
    const BoundGraph& network = session.model->network;
    const std::int64_t vocabulary = network.graph.output(network.graph.logits).shape.back();
    const TimedCase first{.prompt = 0, .generate = 1, .depth = 0, .sequences = 1, .chunk = 0};
    PLUMB_TRY([[maybe_unused]] const double step, time(session, first, vocabulary));
    const std::chrono::duration<double> to_first = std::chrono::steady_clock::now() - opened;
    const std::uint64_t size = stored_bytes(network);
    const std::string at_first = resident_times(size);
    const auto begun = std::chrono::steady_clock::now();
    session.executor->prepare();
    const std::chrono::duration<double> to_prepare = std::chrono::steady_clock::now() - begun;
    for (const TimedCase& timed : cases) {
      BenchRow row{.model = std::filesystem::path(path).filename().string(),
                   .format = work_of(network, 1).format,
                   .bytes = size,
                   .parameters = parameter_count(network),
                   .path = session.executor->describe(),
                   .threads = pool.threads(),
                   .test = name_of(timed),
                   .prompt = timed.prompt,
                   .generate = timed.generate,
                   .depth = timed.depth,
                   .sequences = timed.sequences,
                   .rates = {},
                   .memory = {},
                   .products = {}};
      PLUMB_TRY_STATUS(repeat(session, timed, vocabulary, pool, row));
      report.rows.push_back(std::move(row));
    }
    report.notes.push_back(fmt::format(
        "{}, {}: first token {:.2f} s after opening, the weights laid out at once in {:.2f} s; resident memory {} times the weights at "
        "the first token, {} at the end",
        std::filesystem::path(path).filename().string(), session.executor->describe(), to_first.count(), to_prepare.count(), at_first,
        resident_times(size)));
    return {};
  }

 private:
  // "1.10 (1.07 its own, 0.03 of mapped files)", without what the ceilings are measured with.
  std::string resident_times(std::uint64_t size) const {
    const Resident resident = resident_bytes();
    const auto times = [&](double bytes) { return bytes / static_cast<double>(size); };
    const double own = times(static_cast<double>(resident.own) - static_cast<double>(machine_.bytes()));
    const double file = times(static_cast<double>(resident.file));
    return fmt::format("{:.2f} ({:.2f} its own, {:.2f} of mapped files)", own + file, own, file);
  }

  Result<double> time(const Session& session, const TimedCase& timed,
                      std::int64_t vocabulary) const {
    return time_once(*session.executor, timed, vocabulary, [] { return !interrupted(); });
  }

  Status repeat(const Session& session, const TimedCase& timed, std::int64_t vocabulary,
                ThreadPool& pool, BenchRow& row) {
    const Work work = work_of(session.model->network, timed.sequences);
    const double steps = static_cast<double>(timed.generate);
    const double logits = static_cast<double>(timed.sequences) * (timed.prompt > 0 ? 1 : steps);
    const double bytes = timed.generate > 0 ? work.step_bytes * steps : 0;
    const double operations = work.token_operations * static_cast<double>(timed.tokens()) +
                              work.logits_operations * logits;
    show_progress(fmt::format("{} {}: warming up", row.model, row.test));
    PLUMB_TRY([[maybe_unused]] const double warm, time(session, timed, vocabulary));
    std::vector<double> read;
    std::vector<double> computed;
    std::vector<double> read_share;
    std::vector<double> computed_share;
    Ceilings before = machine_.measure(pool);
    for (std::int64_t i = 0; i < options_.repetitions; ++i) {
      show_progress(
          fmt::format("{} {}: {} of {}", row.model, row.test, i + 1, options_.repetitions));
      PLUMB_TRY(const double seconds, time(session, timed, vocabulary));
      const Ceilings after = machine_.measure(pool);
      row.rates.push_back(static_cast<double>(timed.tokens()) / seconds);
      const double memory = std::max(before.memory, after.memory);
      const double products = std::max(ceiling_of(before, work.form), ceiling_of(after, work.form));
      read.push_back(bytes / seconds);
      computed.push_back(operations / seconds);
      read_share.push_back(memory > 0 ? read.back() / memory : 0);
      computed_share.push_back(products > 0 ? computed.back() / products : 0);
      before = after;
    }
    clear_progress();
    row.memory = {
        .name = "memory", .reached = spread_of(read).median, .share = spread_of(read_share).median};
    row.products = {.name = std::string(to_string(work.form)),
                    .reached = spread_of(computed).median,
                    .share = spread_of(computed_share).median};
    return {};
  }

  const Options& options_;
  Machine& machine_;
};

Result<int> execute(const Options& options) {
  PLUMB_TRY(const BenchForm form, bench_form_from_name(options.output.value_or("md")));
  PLUMB_TRY(const Plan plan, plan_of(options));
  const Cancellable cancellable;
  const machine::Processor processor = machine::processor();
  BenchReport report{.processor = processor.model,
                     .features = to_string(machine::features()),
                     .cores = processor.cores,
                     .rows = {},
                     .ceilings = {},
                     .notes = {}};
  Machine machine(!options.no_ceilings);
  Bench bench(options, machine);
  for (const std::string& model : options.models) {
    for (const std::int64_t threads : plan.threads)
      PLUMB_TRY_STATUS(bench.run(model, threads, plan.cases, report));
  }
  if (options.models.empty()) {
    std::vector<std::int64_t> counts = plan.threads;
    if (!options.threads && counts.front() > 1) counts.insert(counts.begin(), 1);
    for (const std::int64_t threads : counts) {
      ThreadPool pool(static_cast<int>(threads));
      for (std::int64_t i = 0; i < options.repetitions && !interrupted(); ++i)
        machine.measure(pool);
    }
  }
  report.ceilings = machine.rows();
  PLUMB_TRY_STATUS(print(text_of(report, form)));
  return kDone;
}

}  // namespace

Command bench_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "bench",
          .place = 9,
          .summary = "Measure how fast models run, and what the machine could do",
          .details = kDetails,
          .declare = [options](Arguments& arguments) { declare_bench(arguments, *options); },
          .execute = [options] { return execute(*options); }};
}

}  // namespace plumb
