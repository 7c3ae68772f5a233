// From the names and forms of a checkpoint's files to the parameters that a graph asks for.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shape.h"
#include "io/tensor_source.h"
#include "io/weight.h"
#include "io/weight_orders.h"

namespace plumb {

// How an architecture's published files differ from the canonical names, as data. Patterns hold {i}
// for the layer and {e} for the expert, each a run of digits; the same letters in `stored` are
// filled with what `name` matched. A tensor that is stored under its canonical name needs no rule;
// where several rules fit, the first whose stored tensor exists is taken, and before the canonical
// name.
struct NameRule {
  enum class Form {
    kSame,             // the stored tensor is the parameter
    kExpertSlice,      // stored [experts, …]; the parameter is slice {e}
    kRowRange,         // rows [first, first + count) of the (sliced) stored tensor, in units of the
                       // parameter's own row count; a negative `first` counts from the end
    kTransposed,       // stored [in, out]; the parameter is [out, in]
    kInterleavedRows,  // parameter row r is stored row r * count + first
    kReshaped,         // the same elements in the same order under another shape
    kLessOne,          // stored 1 + w; the parameter is w
    kRotaryPairs,      // heads of `count` rows; the halves of each are stored row by row in turn
    kTiledRows,        // heads of `tiles` are stored tiled, as rows
    kTiledColumns,     // and as columns
    kLogOfMinus,       // stored -exp(w); the parameter is w
  };

  std::string_view name;    // canonical: "model.layers.{i}.mlp.experts.{e}.gate_proj.weight"
  std::string_view stored;  // as in the file: "model.layers.{i}.mlp.experts.gate_up_proj"
  std::vector<Form> forms;  // applied in order; rows are elements where the parameter is a vector
  int first;                // of kRowRange and kInterleavedRows
  int count;
  // Where given: the rule holds only in files that have a tensor of this name (a pattern) with a
  // shape [..., n, 1], n > 1. Converters that transpose a convolution leave this mark.
  std::string_view only_beside_column = {};
  HeadTiles tiles = {};  // of kTiledRows and kTiledColumns
};

// A parameter whose rows files keep in several tensors. It has `groups` runs of rows, and each run has the next rows of
// every part in turn. Parts of one tensor follow each other in it.
struct SplitRule {
  enum class Layout {
    kRows,             // [groups * rows, in], between other parts of the tensor
    kStack,            // [groups, rows, in]
    kTransposedStack,  // [groups, in, rows]
  };
  struct Part {
    std::string_view stored;  // as in NameRule
    std::int64_t rows;        // of each run
    Layout layout;
  };

  std::string_view name;
  std::int64_t groups;
  std::vector<Part> parts;
};

// Names that begin with `canonical` may begin with `stored` in the files, those of rules too.
struct NamePrefix {
  std::string_view canonical;  // "model."
  std::string_view stored;     // "model.language_model."
};

// What an architecture says about its files. Names in `ignored` (patterns; a trailing * matches
// anything) may be present and unread: buffers that old versions saved, heads for other tasks.
struct FileConventions {
  std::vector<NameRule> rules;
  std::vector<std::string_view> ignored;
  std::vector<NamePrefix> prefixes = {};
  std::vector<std::string_view> tables = {};  // patterns of integers that are numbers, not codes of a form
  // Tensors of this pattern are ignored from the layer on, where given.
  std::string_view layers = "";
  std::optional<std::int64_t> ignored_from_layer = {};
  std::vector<SplitRule> splits = {};  // hold where all their tensors are there, before the rules
};

// Hands out the parameters of a checkpoint and remembers which elements have been claimed. What the
// files store as codes with scales beside them (io/forms) is one tensor to the rules, under the name
// that the form gives it.
class WeightMap {
 public:
  // `settings` is the JSON text of config.json's quantisation object, "" for none.
  WeightMap(std::shared_ptr<const TensorSource> source, FileConventions conventions,
            std::string_view settings = {});

  // The parameter `name` of exactly `shape`; an error names a tensor that is missing or of another
  // shape, with both shapes. Taking a parameter again gives it again (tied embeddings).
  Result<WeightPtr> take(std::string_view name, const Shape& shape);

  bool has(std::string_view name) const;

  // An error that names the tensors nobody took, or took only in part, and no convention excuses.
  Status finish() const;

  // After finish(): the tensors that nobody took, by leave of the conventions, in the files' order.
  struct Skipped {
    std::string name;
    Shape shape;
  };
  std::vector<Skipped> skipped() const;

 private:
  // A tensor as the rules see it: one of a file, or one that a form makes of several.
  struct Entry {
    std::string name;
    const StoredTensor* stored;               // the codes, for a form's
    std::optional<Result<WeightPtr>> formed;  // absent for a file's
    std::int64_t claimed = 0;                 // elements

    const Shape& shape() const;
  };

  // Where a parameter lies: a tensor, and the rule that leads to it (none: stored under its
  // canonical name).
  struct Place {
    std::size_t entry;
    const NameRule* rule;
    std::int64_t expert;
  };

  // Where the parts of a split parameter lie.
  struct Split {
    const SplitRule* rule;
    std::vector<std::size_t> entries;  // by position in rule->parts
  };

  std::optional<Place> locate(std::string_view name) const;
  std::optional<Split> locate_split(std::string_view name) const;
  Result<WeightPtr> take_place(std::string_view name, const Shape& shape, const Place& place);
  Result<WeightPtr> take_split(std::string_view name, const Shape& shape, const Split& split);
  Result<WeightPtr> weight_of(const Entry& entry) const;
  Error misshapen(const Entry& tensor, std::string_view name, const Shape& shape) const;
  std::optional<std::size_t> find(std::string_view name) const;  // under any of the prefixes
  bool holds(const NameRule& rule) const;
  bool is_read(const Entry& tensor) const;  // to its last element

  std::shared_ptr<const TensorSource> source_;
  FileConventions conventions_;
  std::vector<bool> rule_holds_;  // by position in conventions_.rules
  std::vector<Entry> entries_;    // in the files' order, a form's where its codes are
  std::map<std::string, std::size_t, std::less<>> position_;  // in entries_
  std::set<std::string, std::less<>> taken_;
};

}  // namespace plumb
