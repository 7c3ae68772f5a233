// The gated delta rule, https://arxiv.org/abs/2412.06464. Reference: transformers,
// models/qwen3_5/modeling_qwen3_5.py, torch_recurrent_gated_delta_rule and
// torch_chunk_gated_delta_rule: everything in float32, only the output in the activation dtype.
#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "reference/kernels.h"

namespace plumb::reference {
namespace {

// One head's matrix and what it remembers of the tokens of one call.
class Head {
 public:
  Head(const DeltaRule& op, std::span<double> state, std::size_t key_dim, const Numerics& numerics)
      : op_(op), state_(state), value_dim_(state.size() / key_dim), numerics_(numerics) {}

  // One token: reads and writes the state, fills `out`.
  void step(std::span<const double> q, std::span<const double> k, std::span<const double> v,
            double g, double beta, std::span<double> out) {
    const double keep = numerics_.single(std::exp(g));
    std::vector<double> held(value_dim_, 0.0);
    if (op_.held == HeldRead::kBeforeDecay) held = read(k);
    if (op_.decay == DecayPlace::kBeforeWrite) decay(keep);
    if (op_.held == HeldRead::kAfterDecay) held = read(k);
    if (op_.read == ReadPlace::kBeforeWrite) std::ranges::copy(read(q), out.begin());
    std::vector<double> change(value_dim_);
    for (std::size_t j = 0; j < value_dim_; ++j)
      change[j] = op_.strength == WriteStrength::kOnValueAlone
                      ? numerics_.single(numerics_.single(v[j] * beta) - held[j])
                      : numerics_.single(numerics_.single(v[j] - held[j]) * beta);
    for (std::size_t i = 0; i < k.size(); ++i) {
      const double key = op_.strength == WriteStrength::kOnValueAndKey ? beta * k[i] : k[i];
      for (std::size_t j = 0; j < value_dim_; ++j) {
        double& s = state_[i * value_dim_ + j];
        s = held_as(op_.state_precision, s + key * change[j], numerics_);
      }
    }
    if (op_.decay == DecayPlace::kAfterWrite) decay(keep);
    if (op_.read == ReadPlace::kAfterWrite) std::ranges::copy(read(q), out.begin());
    for (double& value : out)
      value = numerics_.activation(value);
  }

 private:
  void decay(double keep) {
    for (double& value : state_)
      value = held_as(op_.state_precision, value * keep, numerics_);
  }

  // S^T x [value_dim].
  std::vector<double> read(std::span<const double> x) const {
    std::vector<double> sum(value_dim_, 0.0);
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (std::size_t j = 0; j < value_dim_; ++j)
        sum[j] += state_[i * value_dim_ + j] * x[i];
    }
    for (double& value : sum)
      value = numerics_.single(value);
    return sum;
  }

  const DeltaRule& op_;
  std::span<double> state_;  // [key_dim, value_dim]
  std::size_t value_dim_;
  const Numerics& numerics_;
};

// One head's tokens of one chunk; rows of `q` and `k` [n, key_dim], of `v` and `out` [n, value_dim].
struct HeadChunk {
  std::vector<std::span<const double>> q;
  std::vector<std::span<const double>> k;
  std::vector<std::span<const double>> v;
  std::vector<double> g;
  std::vector<double> beta;
  std::vector<std::span<double>> out;
};

double inner(std::span<const double> a, std::span<const double> b) {
  return dot(a.data(), b.data(), static_cast<std::int64_t>(a.size()));
}

// Solves (I + L) X = diag(beta) B in place of B, L strictly lower triangular: L_ij = beta_i (k_i .
// k_j) exp(G_i - G_j).
void solve(const std::vector<std::vector<double>>& lower, std::vector<std::vector<double>>& x,
           const Numerics& numerics) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      for (std::size_t d = 0; d < x[i].size(); ++d)
        x[i][d] -= lower[i][j] * x[j][d];
    }
    for (double& value : x[i])
      value = numerics.single(value);
  }
}

// As many steps of Head as the chunk has tokens, at once (specs/architectures.md, 1.6). With G_i
// the sum of g up to token i: U and W solve (I + L) U = beta V and (I + L) W = beta exp(G) K; the
// changes are C = U - W S; out_i = exp(G_i) S^T q_i + sum_{j <= i} (q_i . k_j) exp(G_i - G_j) C_j;
// and S becomes exp(G_n) S + sum_j exp(G_n - G_j) k_j C_j^T.
void run_chunk(const HeadChunk& c, std::span<double> state, const Numerics& numerics) {
  const std::size_t n = c.g.size();
  const std::size_t key_dim = c.k[0].size();
  const std::size_t value_dim = c.v[0].size();
  std::vector<double> total(n);  // G
  for (std::size_t i = 0; i < n; ++i)
    total[i] = numerics.single((i == 0 ? 0 : total[i - 1]) + c.g[i]);
  const auto between = [&](std::size_t j, std::size_t i) {  // decay from token j to token i >= j
    return numerics.single(std::exp(total[i] - total[j]));
  };
  std::vector<std::vector<double>> lower(n, std::vector<double>(n));
  std::vector<std::vector<double>> changes(n, std::vector<double>(value_dim));  // U, then C
  std::vector<std::vector<double>> keys(n, std::vector<double>(key_dim));       // W
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < i; ++j)
      lower[i][j] = numerics.single(c.beta[i] * inner(c.k[i], c.k[j]) * between(j, i));
    for (std::size_t d = 0; d < value_dim; ++d)
      changes[i][d] = c.beta[i] * c.v[i][d];
    for (std::size_t d = 0; d < key_dim; ++d)
      keys[i][d] = c.beta[i] * std::exp(total[i]) * c.k[i][d];
  }
  solve(lower, changes, numerics);
  solve(lower, keys, numerics);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < key_dim; ++k) {
      for (std::size_t d = 0; d < value_dim; ++d)
        changes[i][d] -= keys[i][k] * state[k * value_dim + d];
    }
    std::vector<double> sum(value_dim, 0.0);
    for (std::size_t k = 0; k < key_dim; ++k) {
      const double query = std::exp(total[i]) * c.q[i][k];
      for (std::size_t d = 0; d < value_dim; ++d)
        sum[d] += query * state[k * value_dim + d];
    }
    for (std::size_t j = 0; j <= i; ++j) {
      const double factor = inner(c.q[i], c.k[j]) * between(j, i);
      for (std::size_t d = 0; d < value_dim; ++d)
        sum[d] += factor * changes[j][d];
    }
    for (std::size_t d = 0; d < value_dim; ++d)
      c.out[i][d] = numerics.activation(numerics.single(sum[d]));
  }
  for (std::size_t k = 0; k < key_dim; ++k) {
    for (std::size_t d = 0; d < value_dim; ++d) {
      double sum = std::exp(total[n - 1]) * state[k * value_dim + d];
      for (std::size_t j = 0; j < n; ++j)
        sum += between(j, n - 1) * c.k[j][k] * changes[j][d];
      state[k * value_dim + d] = numerics.single(sum);
    }
  }
}

// The operands of one value head, token by token.
struct HeadView {
  const Tensor& q;
  const Tensor& k;
  const Tensor& v;
  const Tensor& g;
  const Tensor& beta;
  Tensor& out;
  std::size_t key_head;
  std::size_t value_head;

  static std::span<const double> part(const Tensor& x, std::int64_t t, std::size_t head) {
    const auto dim = static_cast<std::size_t>(x.shape.back());
    return x.row(t).subspan(head * dim, dim);
  }
  std::span<const double> query(std::int64_t t) const { return part(q, t, key_head); }
  std::span<const double> key(std::int64_t t) const { return part(k, t, key_head); }
  std::span<const double> value(std::int64_t t) const { return part(v, t, value_head); }
  std::span<double> result(std::int64_t t) const {
    const auto dim = static_cast<std::size_t>(out.shape.back());
    return out.row(t).subspan(value_head * dim, dim);
  }
};

void run_head(const DeltaRule& op, const HeadView& view, std::span<double> state,
              const Numerics& numerics) {
  const std::int64_t tokens = view.q.tokens();
  if (op.form == DeltaForm::kRecurrent) {
    Head head(op, state, static_cast<std::size_t>(view.q.shape.back()), numerics);
    for (std::int64_t t = 0; t < tokens; ++t) {
      head.step(view.query(t), view.key(t), view.value(t), view.g.row(t)[view.value_head],
                view.beta.row(t)[view.value_head], view.result(t));
    }
    return;
  }
  PLUMB_CHECK(op.chunk > 0 && op.decay == DecayPlace::kBeforeWrite &&
              op.read == ReadPlace::kAfterWrite && op.strength == WriteStrength::kOnValue &&
              op.held == HeldRead::kAfterDecay && op.state_precision == ScalePrecision::kFloat32);
  for (std::int64_t first = 0; first < tokens; first += op.chunk) {
    HeadChunk chunk;
    for (std::int64_t t = first; t < std::min(first + op.chunk, tokens); ++t) {
      chunk.q.push_back(view.query(t));
      chunk.k.push_back(view.key(t));
      chunk.v.push_back(view.value(t));
      chunk.g.push_back(view.g.row(t)[view.value_head]);
      chunk.beta.push_back(view.beta.row(t)[view.value_head]);
      chunk.out.push_back(view.result(t));
    }
    run_chunk(chunk, state, numerics);
  }
}

}  // namespace

Outputs run(const DeltaRule& op, const StageOperands& operands, const StageContext& context) {
  const Tensor& q = *operands.inputs[0];
  const Tensor& v = *operands.inputs[2];
  auto& matrices = std::get<RecurrentMemory>(*operands.states[0]).matrices;
  Tensor out(v.shape);
  const auto key_heads = static_cast<std::size_t>(q.shape[1]);
  const auto value_heads = static_cast<std::size_t>(v.shape[1]);
  const std::size_t size = matrices.data.size() / value_heads;
  for_rows(
      context, v.shape[1], static_cast<std::int64_t>(4 * size) * v.tokens(),
      [&](std::int64_t begin, std::int64_t end) {
        for (auto h = static_cast<std::size_t>(begin); h < static_cast<std::size_t>(end); ++h) {
          const std::size_t key_head =
              op.groups == HeadGroups::kRepeat ? h / (value_heads / key_heads) : h % key_heads;
          const HeadView view{.q = q,
                              .k = *operands.inputs[1],
                              .v = v,
                              .g = *operands.inputs[3],
                              .beta = *operands.inputs[4],
                              .out = out,
                              .key_head = key_head,
                              .value_head = h};
          run_head(op, view, std::span(matrices.data).subspan(h * size, size), context.numerics);
        }
      });
  Tensor state;
  if (context.all_outputs) state = matrices;
  return {std::move(state), std::move(out)};
}

}  // namespace plumb::reference
