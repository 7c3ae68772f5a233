// Recording what latent attention adds: keys put together from parts.
// Reference: transformers, models/deepseek_v3/modeling_deepseek_v3.py.
#include <algorithm>

#include "graph/builder.h"

namespace plumb {

Value Builder::join_heads(std::string_view stage, std::vector<Value> parts) {
  std::int64_t heads = 1;
  std::int64_t width = 0;
  for (const Value part : parts) {
    const Shape& in = shape(part);
    if (in.size() != 2 || (heads != 1 && in[0] != 1 && in[0] != heads)) {
      fail(stage, "cannot join " + to_string(in) + " to " + std::to_string(heads) + " heads");
      return part;
    }
    heads = std::max(heads, in[0]);
    width += in[1];
  }
  return yield(record(stage, JoinHeads{}, std::move(parts)), "", {heads, width});
}

}  // namespace plumb
