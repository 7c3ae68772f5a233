// Markdown for people, JSON with every sample, CSV with one line for each row.
#include "support/bench_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "support/json.h"

namespace plumb {
namespace {

std::string size_text(std::uint64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1U << 30U));
}

std::string count_text(std::uint64_t count) {
  return fmt::format("{:.2f} B", static_cast<double>(count) / 1e9);
}

// The one of the two that is nearer to its ceiling is what holds the speed down.
std::string limit_text(const BenchRow& row) {
  const Limit& nearer = row.memory.share > row.products.share ? row.memory : row.products;
  if (nearer.share <= 0) return "";
  const char* unit = &nearer == &row.memory ? "GB/s" : "Gop/s";
  return fmt::format("{:.0f} % of {} ({:.1f} {})", 100 * nearer.share, nearer.name,
                     nearer.reached / 1e9, unit);
}

std::string table(const BenchReport& report) {
  std::string text;
  if (!report.rows.empty()) {
    text +=
        "| model | weights | size | params | path | test | t/s | lowest to highest | of the "
        "ceiling |\n"
        "|---|---|---|---|---|---|---|---|---|\n";
  }
  for (const BenchRow& row : report.rows) {
    const Spread rate = spread_of(row.rates);
    text +=
        fmt::format("| {} | {} | {} | {} | {} | {} | {:.2f} | {:.2f} to {:.2f} | {} |\n", row.model,
                    row.format, size_text(row.bytes), count_text(row.parameters), row.path,
                    row.test, rate.median, rate.lowest, rate.highest, limit_text(row));
  }
  if (!report.ceilings.empty()) {
    text += fmt::format("{}Ceilings of {}, {} cores, with {}:\n\n", report.rows.empty() ? "" : "\n",
                        report.processor, report.cores, report.features);
    text +=
        "| ceiling | instructions | threads | median | lowest to highest "
        "|\n|---|---|---|---|---|\n";
  }
  for (const CeilingRow& row : report.ceilings) {
    const Spread samples = spread_of(row.samples);
    text += fmt::format("| {} | {} | {} | {:.1f} {} | {:.1f} to {:.1f} |\n", row.name, row.path,
                        row.threads, samples.median, row.unit, samples.lowest, samples.highest);
  }
  for (const std::string& note : report.notes)
    text += fmt::format("\n{}\n", note);
  return text;
}

Json json_of(const Limit& limit) {
  return {{"of", limit.name}, {"per_second", limit.reached}, {"share", limit.share}};
}

std::string json(const BenchReport& report) {
  Json rows = Json::array();
  for (const BenchRow& row : report.rows) {
    const Spread rate = spread_of(row.rates);
    rows.push_back({{"model", row.model},
                    {"weights", row.format},
                    {"bytes", row.bytes},
                    {"parameters", row.parameters},
                    {"path", row.path},
                    {"threads", row.threads},
                    {"test", row.test},
                    {"prompt", row.prompt},
                    {"generate", row.generate},
                    {"depth", row.depth},
                    {"sequences", row.sequences},
                    {"tokens_per_second", rate.median},
                    {"lowest", rate.lowest},
                    {"highest", rate.highest},
                    {"samples", row.rates},
                    {"memory", json_of(row.memory)},
                    {"products", json_of(row.products)}});
  }
  Json ceilings = Json::array();
  for (const CeilingRow& row : report.ceilings) {
    ceilings.push_back({{"ceiling", row.name},
                        {"instructions", row.path},
                        {"threads", row.threads},
                        {"unit", row.unit},
                        {"median", spread_of(row.samples).median},
                        {"samples", row.samples}});
  }
  return json_text({{"processor", report.processor},
                    {"features", report.features},
                    {"cores", report.cores},
                    {"rows", std::move(rows)},
                    {"ceilings", std::move(ceilings)},
                    {"notes", report.notes}},
                   1) +
         "\n";
}

// RFC 4180.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text)
    out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::string csv(const BenchReport& report) {
  std::string text =
      "model,weights,bytes,parameters,path,threads,prompt,generate,depth,sequences,tokens_per_"
      "second,lowest,highest,"
      "memory_bytes_per_second,memory_share,products_of,operations_per_second,products_share\n";
  for (const BenchRow& row : report.rows) {
    const Spread rate = spread_of(row.rates);
    text += fmt::format(
        "{},{},{},{},{},{},{},{},{},{},{:.4f},{:.4f},{:.4f},{:.0f},{:.4f},{},{:.0f},{:.4f}\n",
        quoted(row.model), row.format, row.bytes, row.parameters, quoted(row.path), row.threads,
        row.prompt, row.generate, row.depth, row.sequences, rate.median, rate.lowest, rate.highest,
        row.memory.reached, row.memory.share, row.products.name, row.products.reached,
        row.products.share);
  }
  return text;
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const std::size_t middle = samples.size() / 2;
  const double median =
      samples.size() % 2 == 1 ? samples[middle] : (samples[middle - 1] + samples[middle]) / 2;
  return {.median = median, .lowest = samples.front(), .highest = samples.back()};
}

Result<BenchForm> bench_form_from_name(const std::string& name) {
  if (name == "md") return BenchForm::kTable;
  if (name == "json") return BenchForm::kJson;
  if (name == "csv") return BenchForm::kCsv;
  return Error{ErrorCode::kInvalidArgument,
               fmt::format("--output '{}' is not known; there are md, json and csv", name)};
}

std::string text_of(const BenchReport& report, BenchForm form) {
  if (form == BenchForm::kJson) return json(report);
  return form == BenchForm::kCsv ? csv(report) : table(report);
}

}  // namespace plumb
