// Parts of what was captured: the ids alone, or the first tokens of the first pass.
#pragma once
#include "parity/captured.h"

namespace plumb {

// The steps and their ids without a value: the whole network is then computed.
class IdsOnly final : public Captured {
 public:
  explicit IdsOnly(const Captured& whole) : whole_(whole) {}
  const std::vector<TraceStep>& steps() const override { return whole_.steps(); }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override {
    return whole_.fed_ids(step);
  }
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override {
    return nullptr;
  }
  std::int64_t known_length(std::size_t step) const override { return whole_.known_length(step); }

 private:
  const Captured& whole_;
};

// The first `count` tokens of step 0: in a causal network all that they are is known from them, and from how many tokens there were.
// Values that do not have one row for each token of the step are left out.
class FirstTokens final : public Captured {
 public:
  FirstTokens(const Captured& whole, std::int64_t count)
      : whole_(whole), steps_{{.first = whole.steps().at(0).first, .count = count}} {}
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override;
  std::shared_ptr<const CapturedValue> value(std::size_t step,
                                             std::string_view stage) const override;
  std::int64_t known_length(std::size_t) const override { return whole_.known_length(0); }

 private:
  const Captured& whole_;
  std::vector<TraceStep> steps_;
};

// Values as they may have been before they were rounded to a type of relative step `unit`: each moved within it, in a fixed way. Whole
// numbers (ids, choices) stay.
class Jittered final : public Captured {
 public:
  Jittered(const Captured& own, double unit) : own_(own), unit_(unit) {}
  const std::vector<TraceStep>& steps() const override { return own_.steps(); }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override { return own_.fed_ids(step); }
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override;
  std::int64_t known_length(std::size_t step) const override { return own_.known_length(step); }

 private:
  const Captured& own_;
  double unit_;
};

}  // namespace plumb
