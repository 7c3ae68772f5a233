// A case is believed when the diagnosis of what was written names the same cause; the shortest such prefix is kept.
#include "parity/repro.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <system_error>

#include "parity/alignment.h"
#include "parity/blame.h"
#include "parity/captured_views.h"
#include "parity/case_trace.h"
#include "parity/output_folder.h"

namespace plumb {

namespace fs = std::filesystem;

namespace {

Status write_script(const fs::path& file, const std::string& text) {
  PLUMB_TRY_STATUS(write_text(file, text));
  std::error_code error;
  fs::permissions(file, fs::perms::owner_exec | fs::perms::group_exec | fs::perms::others_exec, fs::perm_options::add, error);
  if (error) return file_error(file, "cannot be written");
  return {};
}

// For a POSIX shell.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text)
    out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

bool same_value(const FieldValue& a, const FieldValue& b) {
  const auto* x = std::get_if<double>(&a);
  const auto* y = std::get_if<double>(&b);
  constexpr double kSolved = 1e-2;  // a number that was solved for, on fewer tokens
  return x != nullptr && y != nullptr ? std::abs(*x - *y) <= kSolved * std::abs(*x) : to_string(a) == to_string(b);
}

bool same_cause(const Finding& a, const Finding& b) {
  return a.stage == b.stage && a.cause_row == b.cause_row && a.field == b.field && b.also.size() <= a.also.size() &&
         (a.cause_row.empty() || a.cause_row == "8" || same_value(a.found, b.found));
}

class Writer {
 public:
  Writer(const Model& model, const Trace& trace, const Diagnosis& diagnosis, const Finding& finding, const ReproRequest& request,
         fs::path folder)
      : model_(model),
        trace_(trace),
        finding_(finding),
        request_(request),
        case_(folder / "case.trace"),
        folder_(std::move(folder)),
        pool_(request.threads),
        aligned_(trace, model.network, pool_) {
    const auto& checks = finding.side == Side::kReference ? diagnosis.reference->checks : diagnosis.checks;
    const auto found = std::find_if(checks.begin(), checks.end(),
                                    [&](const Check& check) { return check.fails && check.stage == finding.stage; });
    if (found != checks.end()) check_ = *found;
  }

  Result<Repro> run() {
    PLUMB_TRY(bool shown, find_case());
    if (!shown) {
      stages_.clear();
      PLUMB_TRY(shown, try_content(everything()));
    }
    if (!shown)
      return file_error(request_.folder, "the fault does not show in what was captured around it: " + finding_words(finding_));
    PLUMB_TRY_STATUS(write_script(folder_ / "replay.sh", script()));
    PLUMB_TRY_STATUS(write_text(folder_ / "README.md", readme()));
    return repro_;
  }

 private:
  Result<bool> find_case() {
    if (!check_) return try_content(around());
    stages_ = {check_->reported == Reported::kLogprobs ? model_.network.graph.output(check_->value).name : check_->stage};
    CaseContent content = content_of(model_.network, aligned_, *check_);
    const std::int64_t all = content.tokens;
    if (can_be_cut(model_.network, aligned_, content)) {
      for (std::int64_t tokens = 1; tokens < all; tokens = tokens < 3 ? tokens + 1 : tokens + (tokens + 1) / 2) {
        content.tokens = tokens;
        if (!fails_at(tokens)) continue;
        PLUMB_TRY(const bool shown, try_content(content));
        if (shown) return true;
        // A long search for each of many lengths is no price for a few tokens.
        constexpr std::size_t kLongSpan = 30;
        if (check_->span.size() > kLongSpan) break;
      }
      content.tokens = all;
    }
    return try_content(content);
  }

  // Whether so few tokens are beyond the budget at all.
  bool fails_at(std::int64_t tokens) {
    const FirstTokens first(aligned_, tokens);
    Checker checker(model_.network, first, arithmetic_of(model_.network, aligned_, trace_, pool_), pool_);
    const auto check = checker.check(0, check_->value, check_->reported);
    return !check || check->fails;  // rows over keys are judged once they are cut
  }

  // Of what goes wrong around the network: the ids, the positions, the last rows of the logits.
  CaseContent around() const {
    CaseContent content;
    content.steps = trace_.steps().size();
    content.tokens = trace_.steps().empty() ? 0 : trace_.steps()[0].count;
    content.with_prompt = finding_.stage == "token_ids" || finding_.stage == "prompt";
    content.last_rows = finding_.stage == "sampler";
    const std::string wanted = finding_.stage == "sampler" ? "logits" : finding_.stage == "positions" ? "positions" : "";
    for (std::size_t step = 0; step < content.steps; ++step) {
      if (!wanted.empty() && aligned_.value(step, wanted)) content.values.insert({step, wanted});
    }
    return content;
  }

  CaseContent everything() const {
    CaseContent content = around();
    content.with_prompt = true;
    content.last_rows = false;
    for (const Stage& stage : model_.network.graph.stages) {
      for (const Output& output : stage.outputs)
        add_everywhere(output.name, content);
    }
    add_everywhere("logprobs", content);
    add_everywhere("logprobs.ids", content);
    return content;
  }

  void add_everywhere(const std::string& name, CaseContent& content) const {
    for (std::size_t step = 0; step < content.steps; ++step) {
      if (aligned_.value(step, name)) content.values.insert({step, name});
    }
  }

  Result<bool> try_content(const CaseContent& content) {
    std::error_code error;
    fs::remove_all(case_, error);
    fs::create_directories(case_, error);
    if (error) return file_error(case_, "cannot be made: " + error.message());
    PLUMB_TRY(const std::size_t tensors, write_case(case_, trace_, aligned_, content));
    PLUMB_TRY(const Trace part, Trace::open(case_));
    PLUMB_TRY(const Diagnosis again,
              diagnose(model_, part, {.threads = request_.threads, .reference = nullptr, .stages = stages_, .progress = {}}));
    const Finding* found = finding_to_show(again);
    if (found == nullptr || !same_cause(finding_, *found)) return false;
    summary_ = again.summary;
    repro_.stage = finding_.stage;
    repro_.tensors = tensors;
    repro_.tokens = 0;
    for (const TraceStep& step : part.steps())
      repro_.tokens += step.count;
    for (const TraceStep& step : trace_.steps())
      repro_.of_tokens += step.count;
    return true;
  }

  std::string command(const std::string& trace, const std::string& model) const {
    std::string text = fmt::format("diagnose {} --model {}", trace, model);
    if (request_.config) text += " --config " + quoted(fs::absolute(*request_.config).string());
    for (const std::string& stage : stages_)
      text += " --stage " + quoted(stage);
    return text;
  }

  std::string script() const {
    return fmt::format(
        "#!/bin/sh\n"
        "# Replays the case beside this file. Usage: replay.sh [CHECKPOINT [OPTION...]]; PLUMB names the program.\n"
        "# Exit code 1: the fault is there, as it was when the case was written; 0: it is not.\n"
        "here=$(CDPATH= cd -- \"$(dirname -- \"$0\")\" && pwd)\n"
        "model={}\n"
        "if [ $# -gt 0 ]; then model=$1; shift; fi\n"
        "exec \"${{PLUMB:-plumb}}\" {} \"$@\"\n",
        quoted(fs::absolute(request_.model).lexically_normal().string()), command("\"$here/case.trace\"", "\"$model\""));
  }

  // The parameters that the check's span reads.
  std::string weights() const {
    std::string text;
    if (!check_) return text;
    std::set<int> params;
    for (const int index : check_->span) {
      const auto& list = model_.network.graph.stages[static_cast<std::size_t>(index)].params;
      params.insert(list.begin(), list.end());
    }
    constexpr std::size_t kMost = 24;
    std::size_t count = 0;
    for (const int index : params) {
      if (count++ == kMost) return text + fmt::format("* and {} more\n", params.size() - kMost);
      const auto& param = model_.network.graph.params[static_cast<std::size_t>(index)];
      text += fmt::format("* `{}` {}\n", param.name, to_string(param.shape));
    }
    return text;
  }

  std::string readme() const {
    std::string text = fmt::format(
        "# A fault, as small as it shows\n\n{}\n\n`case.trace` holds {} tensor{} of {} token{} (the trace had {}), captured by {} {}.\n"
        "It is judged against the checkpoint at `{}`.\n",
        summary_, repro_.tensors, repro_.tensors == 1 ? "" : "s", repro_.tokens, repro_.tokens == 1 ? "" : "s", repro_.of_tokens,
        trace_.manifest().engine_name.empty() ? "an engine" : trace_.manifest().engine_name, trace_.manifest().engine_version,
        fs::absolute(request_.model).lexically_normal().string());
    if (const std::string list = weights(); !list.empty()) text += "Of it the case needs:\n\n" + list;
    text += fmt::format("\nOne command replays it:\n\n    ./replay.sh\n\nwhich is\n\n    plumb {}\n\nWhere the checkpoint lies elsewhere: "
                        "`./replay.sh CHECKPOINT`. Other options of `plumb diagnose` may follow.\n",
                        command("case.trace", quoted(fs::absolute(request_.model).lexically_normal().string())));
    return text;
  }

  const Model& model_;
  const Trace& trace_;
  const Finding& finding_;
  const ReproRequest& request_;
  fs::path case_;
  fs::path folder_;
  ThreadPool pool_;
  AlignedTrace aligned_;
  std::optional<Check> check_;
  std::vector<std::string> stages_;
  std::string summary_;
  Repro repro_;
};

}  // namespace

const Finding* finding_to_show(const Diagnosis& diagnosis) {
  const auto harmful = std::find_if(diagnosis.findings.begin(), diagnosis.findings.end(),
                                    [](const Finding& finding) { return !finding.harmless; });
  if (harmful != diagnosis.findings.end()) return &*harmful;
  return diagnosis.findings.empty() ? nullptr : &diagnosis.findings.front();
}

Status check_repro_target(const fs::path& folder) {
  const fs::path target = without_separator(folder);
  if (target.empty()) return file_error(folder, "is no name for a folder");
  std::error_code ignored;
  if (fs::symlink_status(target, ignored).type() != fs::file_type::not_found) return file_error(target, "is there already");
  return {};
}

Result<Repro> write_repro(const Model& model, const Trace& trace, const Diagnosis& diagnosis, const ReproRequest& request) {
  PLUMB_TRY_STATUS(check_repro_target(request.folder));
  const Finding* finding = finding_to_show(diagnosis);
  if (finding == nullptr) return file_error(request.folder, "not written: there is no fault to show");
  const fs::path target = without_separator(request.folder);
  const TemporaryFolder unfinished{beside(target, "unfinished")};
  std::error_code error;
  fs::create_directory(unfinished.path, error);
  if (error) return file_error(unfinished.path, "cannot be made: " + error.message());
  Writer writer(model, trace, diagnosis, *finding, request, unfinished.path);
  PLUMB_TRY(Repro repro, writer.run());
  fs::rename(unfinished.path, target, error);
  if (error) return file_error(target, "cannot be named so: " + error.message());
  return repro;
}

}  // namespace plumb
