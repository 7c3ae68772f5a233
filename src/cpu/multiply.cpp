// A task is one panel of 32 rows of one product for all its tokens: which thread takes it changes no sum.
#include "cpu/multiply.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

namespace plumb::cpu {
namespace {

// Tokens whose sums are held at once: 32 KiB of them.
constexpr std::int64_t kSlab = 256;

// One x in the form in which a kernel reads it.
struct Prepared {
  ActivationForm form;
  const float* x;
  std::int64_t x_stride;
  std::int64_t rows;     // tokens * groups
  std::int64_t columns;
  std::int64_t groups;
  std::int64_t stride;   // of a row's term, padded
  std::int64_t terms;    // of a row: 3 where it is split
  Pages codes;
  Pages scales;
  Pages sums;

  Int8Rows int8(std::int64_t row) const {
    return {.codes = reinterpret_cast<std::int8_t*>(codes.data()) + row * stride,
            .scales = reinterpret_cast<float*>(scales.data()) + row * stride / kActivationGroup,
            .sums = reinterpret_cast<std::int32_t*>(sums.data()) + row * stride / 16,
            .stride = stride};
  }
  Int16Rows int16(std::int64_t row) const {
    return {.codes = reinterpret_cast<std::int16_t*>(codes.data()) + row * stride,
            .scales = reinterpret_cast<float*>(scales.data()) + row * stride / kInt16Block,
            .stride = stride};
  }
  std::uint16_t* bf16(std::int64_t row) const {
    return reinterpret_cast<std::uint16_t*>(codes.data()) + row * stride * terms;
  }
};

std::int64_t floats_for(std::int64_t bytes) {
  return (bytes + 3) / 4;
}

void prepare_rows(const Context& context, Prepared& to) {
  to.stride = (to.columns + kChunk - 1) / kChunk * kChunk;
  if (to.form == ActivationForm::kInt16) to.stride = ((to.columns + kInt16Block - 1) / kInt16Block | 1) * kInt16Block;
  const bool int8 = to.form == ActivationForm::kInt8;
  to.terms = to.form == ActivationForm::kSplit ? 3 : 1;
  to.codes = context.buffers->take(floats_for(to.rows * to.stride * (int8 ? 1 : 2 * to.terms)));
  if (int8) {
    to.scales = context.buffers->take(to.rows * to.stride / kActivationGroup);
    to.sums = context.buffers->take(to.rows * to.stride / 16);
  }
  if (to.form == ActivationForm::kInt16) to.scales = context.buffers->take(to.rows * to.stride / kInt16Block);
  for_rows(context, to.rows, to.stride, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* x = to.x + row / to.groups * to.x_stride + row % to.groups * to.columns;
      if (int8) {
        context.kernels->quantise(x, to.columns, to.int8(0), row);
      } else if (to.form == ActivationForm::kInt16) {
        context.kernels->quantise_int16(x, to.columns, to.int16(0), row);
      } else if (to.form == ActivationForm::kSplit) {
        context.kernels->split(x, to.columns, to.stride, to.bf16(row));
      } else {
        context.kernels->to_bf16(x, to.columns, to.stride, to.bf16(row));
      }
    }
  });
}

// Whether products are written where they belong as they are computed; others are copied.
bool writes_rows(ActivationForm form) {
  return form == ActivationForm::kInt8 || form == ActivationForm::kInt16;
}

// A panel, whose first row is `row` of the matrix, and the tokens that meet it together.
struct Meeting {
  const Panel& panel;
  std::int64_t row;
  std::int64_t token;  // the first
  std::int64_t tokens;
};

// Products with part `group` of x.
void run_panel(const Context& context, const Product& product, const Prepared& x, const Meeting& meeting, std::int64_t group,
               const ProductRows& out) {
  const Matrix& matrix = *product.matrix;
  const Panel& panel = meeting.panel;
  const std::int64_t tokens = meeting.tokens;
  const std::int64_t row = meeting.token * product.groups + group;
  if (x.form == ActivationForm::kInt8) {
    Int8Rows rows = x.int8(row);
    rows.stride *= product.groups;
    return context.kernels->multiply_int8(panel, rows, tokens, out);
  }
  if (x.form == ActivationForm::kInt16) {
    Int16Rows rows = x.int16(row);
    rows.stride *= product.groups;
    return context.kernels->multiply_int16(panel, rows, tokens, out);
  }
  if (x.form != ActivationForm::kFloat) {
    const auto run = x.form == ActivationForm::kSplit ? context.kernels->multiply_split : context.kernels->multiply_bf16;
    return run(panel, x.bf16(row), x.stride * x.terms * product.groups, tokens, out.held);
  }
  const float* from = product.x + meeting.token * product.x_stride + group * matrix.columns();
  context.kernels->multiply_float(panel, from, product.x_stride, tokens, out.held);
}

// Rows [begin, stop) of the panel's products, [tokens][32], to where they belong.
void copy_rows(const Product& product, const Meeting& meeting, std::int64_t begin, std::int64_t stop, const float* products) {
  const std::int64_t rows = stop - begin;
  for (std::int64_t t = 0; t < meeting.tokens; ++t) {
    const float* from = products + t * kPanelRows + begin - meeting.row;
    float* to = product.y + (meeting.token + t) * product.y_stride + begin;
    if (product.bias != nullptr) {
      for (std::int64_t r = 0; r < rows; ++r)
        to[r] = from[r] + product.bias[begin + r];
    } else if (rows == kPanelRows) {  // as nearly always; of a length that the compiler knows
      std::memcpy(to, from, kPanelRows * sizeof(float));
    } else {
      std::memcpy(to, from, static_cast<std::size_t>(rows) * sizeof(float));
    }
  }
}

struct Scratch {
  std::vector<float> out;
  DecodeScratch decoded;
  Pages panel;
};

void run_task(const Context& context, const Product& product, const Prepared& x,
              std::int64_t index, Scratch& scratch) {
  const Matrix& matrix = *product.matrix;
  const Panel panel = matrix.form() ? matrix.panel(index, *context.kernels, scratch.panel)
                                    : matrix.decoded_panel(index, *context.kernels, scratch.decoded);
  scratch.out.resize(kSlab * kPanelRows);
  const std::int64_t first = index * kPanelRows;
  const std::int64_t end = std::min(first + kPanelRows, matrix.rows());
  const std::int64_t per_group = matrix.rows() / product.groups;
  for (std::int64_t token = 0; token < product.tokens; token += kSlab) {
    const Meeting meeting = {.panel = panel, .row = first, .token = token, .tokens = std::min(kSlab, product.tokens - token)};
    for (std::int64_t begin = first; begin < end;) {  // the part of the panel that one group owns
      const std::int64_t group = begin / per_group;
      const std::int64_t stop = std::min(end, (group + 1) * per_group);
      const bool whole = product.bias == nullptr && stop - begin == kPanelRows;
      if (whole && writes_rows(x.form)) {
        float* y = product.y + token * product.y_stride + begin;
        run_panel(context, product, x, meeting, group, {.to = y, .stride = product.y_stride, .held = scratch.out.data()});
      } else {
        run_panel(context, product, x, meeting, group, {.to = scratch.out.data()});
        copy_rows(product, meeting, begin, stop, scratch.out.data());
      }
      begin = stop;
    }
  }
}

}  // namespace

ActivationForm activations_for(const Matrix& matrix, Activations activations, const Kernels& kernels) {
  if (!matrix.form()) return ActivationForm::kFloat;
  if (matrix.quantised()) return activations == Activations::kExact ? ActivationForm::kFloat : ActivationForm::kInt8;
  if (matrix.int16()) return ActivationForm::kInt16;
  if (*matrix.form() != PanelForm::kBF16) return ActivationForm::kFloat;
  if (activations == Activations::kShort && kernels.multiply_bf16 != nullptr) return ActivationForm::kBf16;
  return kernels.multiply_split != nullptr ? ActivationForm::kSplit : ActivationForm::kFloat;
}

bool rounds_attention(const Matrix* values, Activations activations, const Kernels& kernels) {
  if (values == nullptr || kernels.attend_int16 == nullptr) return false;
  const ActivationForm form = activations_for(*values, activations, kernels);
  return form == ActivationForm::kInt8 || form == ActivationForm::kInt16 || form == ActivationForm::kBf16;
}

namespace {

void pack_while_there_is_time(const Context& context, Matrix& matrix) {
  if (!matrix.unpacked() || (context.packing_seconds != nullptr && *context.packing_seconds <= 0)) return;
  const auto begun = std::chrono::steady_clock::now();
  matrix.pack(*context.pool, *context.kernels);
  if (context.packing_seconds == nullptr) return;
  *context.packing_seconds -= std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

}  // namespace

void multiply(const Context& context, std::span<const Product> products) {
  std::vector<Prepared> prepared;
  std::vector<std::size_t> which;           // by product, in `prepared`
  std::vector<std::int64_t> first_task = {0};
  std::int64_t cost = 0;
  prepared.reserve(products.size());
  for (const Product& product : products) {
    pack_while_there_is_time(context, *product.matrix);
    const ActivationForm form =
        activations_for(*product.matrix, context.activations, *context.kernels);
    const auto same = std::find_if(prepared.begin(), prepared.end(), [&](const Prepared& p) {
      return p.form == form && p.x == product.x && p.rows == product.tokens * product.groups &&
             p.groups == product.groups && p.columns == product.matrix->columns();
    });
    which.push_back(static_cast<std::size_t>(same - prepared.begin()));
    if (same == prepared.end()) {
      prepared.push_back({.form = form,
                          .x = product.x,
                          .x_stride = product.x_stride,
                          .rows = product.tokens * product.groups,
                          .columns = product.matrix->columns(),
                          .groups = product.groups,
                          .stride = 0,
                          .terms = 1,
                          .codes = {},
                          .scales = {},
                          .sums = {}});
      if (form != ActivationForm::kFloat && product.tokens > 0) prepare_rows(context, prepared.back());
    }
    first_task.push_back(first_task.back() +
                         (product.tokens > 0 ? product.matrix->panels() : 0));
    cost = std::max(cost, kPanelRows * product.matrix->columns() * product.tokens);
  }
  for_rows(context, first_task.back(), cost, [&](std::int64_t begin, std::int64_t end) {
    thread_local Scratch scratch;
    for (std::int64_t task = begin; task < end; ++task) {
      const auto product = static_cast<std::size_t>(
          std::upper_bound(first_task.begin(), first_task.end(), task) - first_task.begin() - 1);
      run_task(context, products[product], prepared[which[product]], task - first_task[product],
               scratch);
    }
  });
  for (Prepared& p : prepared) {
    context.buffers->give_back(std::move(p.codes));
    context.buffers->give_back(std::move(p.scales));
    context.buffers->give_back(std::move(p.sums));
  }
}

}  // namespace plumb::cpu
