// What `plumb bench` prints: rows of measurements as a table, JSON or CSV.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace plumb {

struct Spread {
  double median = 0;
  double lowest = 0;
  double highest = 0;
};

Spread spread_of(std::vector<double> samples);  // of at least one

// How near a speed came to what the machine could do in the same minute.
struct Limit {
  std::string name;    // "memory", "int8"
  double reached = 0;  // bytes or operations a second, the median
  double share = 0;    // of the ceiling that was measured beside each sample, the median
};

struct BenchRow {
  std::string model;
  std::string format;  // of most products' weights
  std::uint64_t bytes;
  std::uint64_t parameters;
  std::string path;  // Executor::describe()
  int threads;
  std::string test;  // "pp512", "tg64 @ d4096, 8 sequences"
  std::int64_t prompt;
  std::int64_t generate;
  std::int64_t depth;
  std::int64_t sequences;
  std::vector<double> rates;  // tokens a second
  Limit memory;               // over the bytes of weights that must be read
  Limit products;             // over the products with weights
};

struct CeilingRow {
  int threads;
  std::string name;  // "memory, 2 MiB pages, 8 streams, prefetch"
  std::string path;  // "avx512vnni"
  std::string unit;  // "GB/s", "Gop/s"
  std::vector<double> samples;
};

struct BenchReport {
  std::string processor;
  std::string features;
  int cores;
  std::vector<BenchRow> rows;
  std::vector<CeilingRow> ceilings;
  std::vector<std::string> notes;  // of each session: the time to the first token, memory
};

enum class BenchForm : std::uint8_t { kTable, kJson, kCsv };

Result<BenchForm> bench_form_from_name(const std::string& name);  // "md", "json", "csv"

std::string text_of(const BenchReport& report, BenchForm form);

}  // namespace plumb
