// Alignment: a trace whose engine has names, axis orders and fused tensors of its own, seen as the graph's stages. Names that are
// the trace format's are taken as they are; the others are matched by layer, shape and content: whatever correlates best with
// what the reference computes at that layer, under the axis orders and channel ranges that give the stage's shape.
#pragma once
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "graph/executor.h"
#include "parity/run_order.h"
#include "parity/tensor_layout.h"
#include "parity/trace.h"

namespace plumb {

struct Alignment {
  std::string theirs;  // the suspect's name
  Layout layout;
  Shape token_shape;  // the stage's own
  bool by_name = false;
};

class AlignedTrace final : public Captured {
 public:
  // `trace` and `network` must outlive it.
  AlignedTrace(const Trace& trace, const BoundGraph& network, ThreadPool& pool);

  const std::vector<TraceStep>& steps() const override { return trace_.steps(); }
  std::vector<std::int32_t> fed_ids(std::size_t step) const override {
    return trace_.fed_ids(step);
  }
  std::shared_ptr<const CapturedValue> value(std::size_t step,
                                             std::string_view stage) const override;

  Ties ties() const override { return ties_; }
  std::span<const Preference> preferences() const override { return preferences_; }
  void prefer(std::vector<Preference> preferences) { preferences_ = std::move(preferences); }

  const std::map<std::string, Alignment, std::less<>>& matches() const {
    return matches_;
  }                                                                         // by stage
  const std::vector<std::string>& unmatched() const { return unmatched_; }  // the suspect's names

 private:
  // Against what follows from the values in `from`; `exact`: only what is the same to the last digits somewhere.
  void match_by_content(const BoundGraph& network, const Captured& from, ThreadPool& pool,
                        const RunOrder& order, const std::vector<const StoredTensor*>& unknown,
                        bool exact);
  void match_by_size(const BoundGraph& network, const RunOrder& order,
                     const std::vector<const StoredTensor*>& unknown, ThreadPool& pool, bool sure);
  // Where a value stands between stages that do not follow from one another, another place for it is tried.
  void match_by_consequence(const BoundGraph& network, ThreadPool& pool, const RunOrder& order,
                            const std::vector<const StoredTensor*>& unknown);
  void match_choices(const BoundGraph& network, const std::vector<const StoredTensor*>& unknown);
  // The stages that are known so far, by the suspect's names.
  std::map<std::string, int> known_stages(const BoundGraph& network) const;

  const Trace& trace_;
  Numbering numbering_;
  Ties ties_ = Ties::kLowest;
  std::vector<Preference> preferences_;
  std::map<std::string, Alignment, std::less<>> matches_;
  std::vector<std::string> unmatched_;
  mutable std::mutex reading_;
  mutable std::map<std::pair<std::size_t, std::string>, std::shared_ptr<const CapturedValue>> held_;
};

}  // namespace plumb
