// What was captured in part, or not quite as it is: the ids alone, the first tokens of the first pass, values moved within their rounding.
#pragma once
#include "parity/captured.h"

namespace plumb {

// What was captured, as it is: a view changes what it is for, and has all else from here.
class CapturedView : public Captured {
 public:
  explicit CapturedView(const Captured& own) : own_(own) {}
  const std::vector<TraceStep>& steps() const override { return own_.steps(); }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override { return own_.fed_ids(step); }
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override { return own_.value(step, stage); }
  std::int64_t known_length(std::size_t step) const override { return own_.known_length(step); }
  Ties ties() const override { return own_.ties(); }
  std::span<const Preference> preferences() const override { return own_.preferences(); }

 protected:
  const Captured& own_;
};

// The steps and their ids without a value: the whole network is then computed.
class IdsOnly final : public CapturedView {
 public:
  using CapturedView::CapturedView;
  std::shared_ptr<const CapturedValue> value(std::size_t, std::string_view) const override { return nullptr; }
};

// The first `count` tokens of step 0: in a causal network all that they are is known from them, and from how many tokens there were.
// Values that do not have one row for each token of the step are left out.
class FirstTokens : public CapturedView {
 public:
  FirstTokens(const Captured& whole, std::int64_t count)
      : CapturedView(whole), steps_{{.first = whole.steps().at(0).first, .count = count}} {}
  const std::vector<TraceStep>& steps() const override { return steps_; }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override;
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override;
  std::int64_t known_length(std::size_t) const override { return own_.known_length(0); }

 private:
  std::vector<TraceStep> steps_;
};

// Half of the distance between a number's neighbours in a type: rounding moves a value by at most that.
double half_step(DType type, double value);

// Each value moved within what rounds to it, as far as any other value is likely to be: the same for each `seed`, position and stage. Whole
// numbers (ids, choices) stay.
Tensor jittered(const Tensor& values, DType type, std::uint64_t seed);

// Values as they may have been before they were rounded to a type.
class Jittered final : public CapturedView {
 public:
  Jittered(const Captured& own, DType type, std::uint64_t seed) : CapturedView(own), type_(type), seed_(seed) {}
  std::shared_ptr<const CapturedValue> value(std::size_t step, std::string_view stage) const override;

 private:
  DType type_;
  std::uint64_t seed_;
};

}  // namespace plumb
