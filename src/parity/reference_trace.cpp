// mkdtemp(3) for the folder; trace_writer.h writes, trace.h reads.
#include "parity/reference_trace.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <system_error>

#include "parity/compare_budget.h"
#include "parity/output_folder.h"
#include "parity/profiles.h"
#include "parity/residual.h"
#include "parity/run_type.h"
#include "parity/stage_names.h"
#include "parity/trace_side.h"
#include "parity/trace_writer.h"
#include "reference/executor.h"

namespace plumb {
namespace {

Result<std::filesystem::path> make_folder() {
  std::error_code error;
  std::string name =
      (std::filesystem::temp_directory_path(error) / "plumb-reference-XXXXXX").string();
  if (error || ::mkdtemp(name.data()) == nullptr)
    return Error{ErrorCode::kInvalidArgument, "no folder can be made for temporary files (TMPDIR)"};
  return std::filesystem::path(name);
}

// The profiles in which an engine of the trace's name and dtype may have run, the likeliest first.
std::vector<Precision> like(const BoundGraph& network, const Trace& trace) {
  const DType type = run_type(trace);
  if (type == DType::kF64) return {Precision::kFp64};
  return likely_profiles(network, suspect_type(type), trace.manifest().engine_words());
}

// How far two traces of the same run are apart, over all that both hold: the geometric mean, so that few near ties of a router that
// fall differently do not decide.
double apart(const Trace& a, const Trace& b) {
  constexpr double kEqual = 1e-9;
  double logarithms = 0;
  std::size_t count = 0;
  for (const StoredTensor& tensor : b.tensors()) {
    const auto slash = tensor.name.find('/');
    const auto step = static_cast<std::size_t>(std::strtoul(tensor.name.c_str(), nullptr, 10));
    const StoredTensor* other = slash == std::string::npos ? nullptr : a.find(step, tensor.name.substr(slash + 1));
    if (other == nullptr || other->shape != tensor.shape) continue;
    logarithms += std::log(std::max(residual(Trace::read(*other), Trace::read(tensor)).relative_l2, kEqual));
    ++count;
  }
  return count > 0 ? std::exp(logarithms / static_cast<double>(count)) : 0;
}

// The graph's stages that one of the traces names; all where names are an engine's own, since content decides then.
Result<StageFilter> stages_of(const Graph& graph, const Trace& a, const Trace& b) {
  std::set<std::string> named;
  bool own = false;
  for (const Trace* trace : {&a, &b}) {
    const TraceSide side(*trace);
    for (const StagePieces& stage : side.stages()) {
      own = own || !stage.name.known || !stage.name.parts.empty() ||
            canonical_name(stage.name) != stage.theirs;
      named.insert(stage.theirs);
    }
  }
  std::vector<std::string> patterns;
  for (const Stage& stage : graph.stages) {
    for (const Output& output : stage.outputs) {
      // Log-probabilities are compared with the logits'.
      if (output.name == "logits" && named.contains("logprobs")) patterns.push_back(output.name);
      const bool input = std::holds_alternative<Tokens>(stage.operation) ||
                         std::holds_alternative<Positions>(stage.operation);
      if (!input &&
          (own || named.contains(output.name) || output.name.ends_with("attn.compressed")))
        patterns.push_back(output.name);
    }
  }
  if (patterns.empty())
    return Error{ErrorCode::kInvalidArgument,
                 "the traces hold no stage that the checkpoint's graph has"};
  return StageFilter::parse(graph, patterns, std::nullopt);
}

Result<Trace> run_as(const Model& model, Precision precision, const StageFilter& filter,
                     const Trace& from, const std::vector<std::int32_t>& ids,
                     const std::filesystem::path& folder, const ReferenceRun& run) {
  const auto executor = make_reference_executor(model.network, precision, run.threads);
  const auto sequence = executor->start();
  TraceRecorder recorder(model.network.graph, precision, filter);
  std::size_t done = 0;
  const auto feed = [&](std::size_t count) -> Status {
    recorder.begin_step(static_cast<std::int64_t>(done), static_cast<std::int64_t>(count));
    const auto progress = [&](std::int64_t of) {
      return !run.progress ||
             run.progress(fmt::format("{}: {} of {} tokens", to_string(precision),
                                      static_cast<std::int64_t>(done) + of, ids.size()));
    };
    constexpr std::int64_t kChunk = 64;  // Ctrl-C is heard after each
    auto logits = executor->forward(
        *sequence, std::span(ids).subspan(done, count),
        {.rows = LogitRows::kAll, .chunk = kChunk, .observer = &recorder, .progress = progress});
    if (!logits.ok()) return logits.error();
    done += count;
    return {};
  };
  for (const TraceStep& step : from.steps()) {
    const auto count = static_cast<std::size_t>(
        std::min<std::int64_t>(step.count, std::ssize(ids) - static_cast<std::int64_t>(done)));
    if (count == 0 || step.first != static_cast<std::int64_t>(done)) break;
    PLUMB_TRY_STATUS(feed(count));
  }
  if (done < ids.size()) PLUMB_TRY_STATUS(feed(ids.size() - done));
  TraceDescription about;
  about.settings = {{"executor", "reference"}, {"precision", std::string(to_string(precision))}};
  about.model_type = from.manifest().model_type;
  about.token_ids = ids;
  PLUMB_TRY_STATUS(write_trace(folder, about, recorder, {.replace = false}));
  return Trace::open(folder);
}

}  // namespace

Result<ReferenceTraces> ReferenceTraces::compute(const Model& model, const Trace& a, const Trace& b,
                                                 const ReferenceRun& run) {
  const TraceSide left(a);
  const TraceSide right(b);
  std::vector<std::int32_t> ids;
  for (const TraceSide* side : {&left, &right}) {
    std::vector<std::int32_t> own;
    for (const auto& [position, id] : side->ids()) {
      if (position != std::ssize(own)) break;
      own.push_back(id);
    }
    const auto [mine, theirs] = std::mismatch(ids.begin(), ids.end(), own.begin(), own.end());
    if (mine == ids.end()) ids = std::move(own);  // one goes on where the other ends
  }
  if (ids.empty())
    return Error{ErrorCode::kInvalidArgument,
                 "neither trace says which ids it fed from position 0 on: the checkpoint cannot be "
                 "run on them"};
  const auto vocab = model.network.graph.output(model.network.graph.logits).shape[0];
  for (const std::int32_t id : ids) {
    if (id >= vocab)
      return Error{ErrorCode::kInvalidArgument,
                   fmt::format("the traces feed id {}, the checkpoint's vocabulary has {} entries",
                               id, vocab)};
  }
  PLUMB_TRY(const StageFilter filter, stages_of(model.network.graph, a, b));
  PLUMB_TRY(std::filesystem::path path, make_folder());
  ReferenceTraces traces;
  traces.folder_ = std::make_shared<TemporaryFolder>(std::move(path));
  const auto at = [&](Precision precision) -> Result<std::shared_ptr<const Trace>> {
    PLUMB_TRY(Trace trace,
              run_as(model, precision, filter, a, ids,
                     traces.folder_->path / (std::string(to_string(precision)) + ".trace"), run));
    return std::make_shared<const Trace>(std::move(trace));
  };
  PLUMB_TRY(traces.exact_, at(Precision::kFp64));
  std::map<Precision, std::shared_ptr<const Trace>> known = {{Precision::kFp64, traces.exact_}};
  const auto nearest = [&](const Trace& trace) -> Result<std::shared_ptr<const Trace>> {
    std::shared_ptr<const Trace> best;
    double least = std::numeric_limits<double>::infinity();
    const auto profiles = like(model.network, trace);
    for (const Precision profile : profiles) {
      if (!known.contains(profile)) {
        PLUMB_TRY(known[profile], at(profile));
      }
      const double distance = profiles.size() == 1 ? 0 : apart(trace, *known[profile]);
      if (best != nullptr && !(distance < least)) continue;
      best = known[profile];
      least = distance;
    }
    return best;
  };
  PLUMB_TRY(traces.like_a_, nearest(a));
  PLUMB_TRY(traces.like_b_, nearest(b));
  return traces;
}

Reference ReferenceTraces::reference() const {
  return {.exact = exact_.get(), .like_a = like_a_.get(), .like_b = like_b_.get()};
}

}  // namespace plumb
