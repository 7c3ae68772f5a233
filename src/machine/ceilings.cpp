// Times the loops of machine/kernels. The best pass counts: whatever disturbs one only makes it slower.
#include "machine/ceilings.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <new>

#include "machine/features.h"

#if defined(__linux__)
#include <sys/mman.h>
#else
#include <cstdlib>
#endif

namespace plumb::machine {
namespace {

constexpr int kPasses = 3;
constexpr double kPeakSeconds = 2e-3;
constexpr std::size_t kLargePage = std::size_t{2} << 20;
constexpr std::int64_t kSlicesPerThread = 4;

double seconds(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> found = {&kPortable};
#if defined(__x86_64__)
  const Features& has = features();
  const std::pair<bool, const Kernels*> all[] = {
      {has.avx2, &kAvx2},
      {has.avx_vnni, &kAvxVnni},
      {has.avx512, &kAvx512},
      {has.avx512_vnni, &kAvx512Vnni},
      {has.avx512_bf16, &kAvx512Bf16},
      {has.amx_int8 && has.amx_bf16, &kAmx},
  };
  for (const auto& [present, kernels] : all) {
    if (present) found.push_back(kernels);
  }
#endif
  return found;
}

// Bytes read a second. A slice's streams lie an odd number of lines apart, so that they do not compete for the same places in
// a cache.
double read_rate(ThreadPool& pool, const ReadBuffer& buffer, Read read) {
  const std::int64_t slices = pool.threads() * kSlicesPerThread;
  const std::int64_t slice =
      static_cast<std::int64_t>(buffer.size()) / slices / kReadStep * kReadStep;
  constexpr std::int64_t kLine = 64;
  const std::int64_t length = (slice / kStreams / (2 * kLine) * 2 * kLine - kLine) * kStreams;
  std::atomic<std::uint64_t> sum = 0;
  const double time = seconds([&] {
    pool.for_rows(slices, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        sum += read(buffer.data() + i * slice, length);
    });
  });
  return static_cast<double>(length * slices) / time;
}

}  // namespace

#if defined(__linux__)
ReadBuffer::ReadBuffer(std::size_t bytes, bool large_pages)
    : size_(bytes), mapped_(bytes + kLargePage) {
  mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  void* aligned = mapping_;
  std::size_t space = mapped_;
  data_ = static_cast<std::uint8_t*>(std::align(kLargePage, bytes, aligned, space));
  // A refusal leaves the system's usual pages, which the measured bandwidth then shows.
  madvise(data_, bytes, large_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  for (std::size_t i = 0; i < bytes; i += 64)
    data_[i] = static_cast<std::uint8_t>(i >> 6U);
}

ReadBuffer::~ReadBuffer() {
  munmap(mapping_, mapped_);
}
#else
ReadBuffer::ReadBuffer(std::size_t bytes, bool /*large_pages*/)
    : size_(bytes), mapping_(std::aligned_alloc(kLargePage, bytes)), mapped_(bytes) {
  if (mapping_ == nullptr) throw std::bad_alloc();
  data_ = static_cast<std::uint8_t*>(mapping_);
  std::fill(data_, data_ + bytes, std::uint8_t{1});
}

ReadBuffer::~ReadBuffer() {
  std::free(mapping_);
}
#endif

CeilingMeter::CeilingMeter(std::size_t bytes)
    : available_(available_kernels()),
      read_(nullptr),
      fp32_(choose(&Kernels::fp32)),
      bf16_(choose(&Kernels::bf16)),
      int8_(choose(&Kernels::int8)),
      plain_(std::max(bytes, kLargePage) / kLargePage * kLargePage, false),
      large_(plain_.size(), true) {
  for (const Kernels* kernels : available_) {
    if (kernels->read_streams != nullptr) read_ = kernels;
  }
  const auto rate = [](const Choice& choice) {
    return choice.peak.operations * static_cast<double>(choice.iterations);
  };
  // Where no instruction multiplies bfloat16 faster than float32, that is what a program does.
  if (bf16_.peak.run == nullptr || rate(bf16_) < rate(fp32_)) bf16_ = fp32_;
  if (int8_.peak.run == nullptr) int8_ = fp32_;
}

CeilingMeter::Choice CeilingMeter::choose(Peak Kernels::*which) const {
  Choice best{.name = "none", .peak = {}, .iterations = 0};
  for (const Kernels* kernels : available_) {
    const Peak peak = kernels->*which;
    if (peak.run == nullptr) continue;
    constexpr std::int64_t kTrial = 20'000;
    double time = 1;
    for (int pass = 0; pass < kPasses; ++pass)
      time = std::min(time, seconds([&] { peak.run(kTrial); }));
    const auto iterations = static_cast<std::int64_t>(kPeakSeconds / std::max(time, 1e-9) * kTrial);
    const Choice choice{
        .name = kernels->name, .peak = peak, .iterations = std::max<std::int64_t>(iterations, 1)};
    if (static_cast<double>(choice.iterations) * peak.operations >
        static_cast<double>(best.iterations) * best.peak.operations) {
      best = choice;
    }
  }
  return best;
}

Ceilings CeilingMeter::measure(ThreadPool& pool) const {
  Ceilings best;
  const auto rate = [&](const Choice& choice) {
    const double time = seconds([&] {
      pool.for_rows(pool.threads(), [&](std::int64_t begin, std::int64_t end) {
        choice.peak.run(choice.iterations * (end - begin));
      });
    });
    return choice.peak.operations * static_cast<double>(choice.iterations * pool.threads()) / time;
  };
  for (int pass = 0; pass < kPasses; ++pass) {
    best.fp32 = std::max(best.fp32, rate(fp32_));
    best.bf16 = std::max(best.bf16, rate(bf16_));
    best.int8 = std::max(best.int8, rate(int8_));
    best.memory = std::max(best.memory, read_rate(pool, large_, read_->read_streams));
    best.memory_plain = std::max(best.memory_plain, read_rate(pool, plain_, read_->read_plain));
  }
  return best;
}

}  // namespace plumb::machine
