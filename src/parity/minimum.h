// The least distance along one number, by parabolas. Where what is measured moves along a line as the number does, the square of its
// distance is a parabola, and the third point finds its foot; elsewhere the golden section goes on (Brent, Algorithms for
// Minimization without Derivatives, chapter 5).
#pragma once
#include <cmath>
#include <limits>
#include <utility>

namespace plumb {

struct MinimumIn {
  double low;
  double high;
  double hopeless;  // given up where the least distance stays above it: towards the right value it falls as the interval does
};

class Minimum {
 public:
  explicit Minimum(const MinimumIn& in) : in_(in), a_(in.low), b_(in.high) {}

  // A distance that is known already; before next() is first asked.
  void know(double x, double distance) { keep(x, distance * distance); }

  double next() {
    const double middle = 0.5 * (a_ + b_);
    const double tolerance = kTolerance * (in_.high - in_.low);
    if (!std::isfinite(fx_)) return u_ = a_ + kGolden * (b_ - a_);
    double step = 0;
    bool parabola = false;
    if (std::isfinite(fw_) && std::isfinite(fv_)) {
      double r = (x_ - w_) * (fx_ - fv_);
      double q = (x_ - v_) * (fx_ - fw_);
      double p = (x_ - v_) * q - (x_ - w_) * r;
      q = 2 * (q - r);
      if (q > 0) p = -p;
      q = std::abs(q);
      parabola = std::abs(p) < std::abs(0.5 * q * before_last_) && p > q * (a_ - x_) && p < q * (b_ - x_);
      if (parabola) step = p / q;
    }
    if (parabola) {
      before_last_ = last_;
    } else {
      before_last_ = x_ >= middle ? a_ - x_ : b_ - x_;
      step = kGolden * before_last_;
    }
    last_ = step;
    if (std::abs(step) < tolerance) step = step < 0 ? -tolerance : tolerance;
    return u_ = x_ + step;
  }

  void tell(double distance) {
    ++tried_;
    keep(u_, distance * distance);
  }

  bool over() const {
    const double tolerance = 2 * kTolerance * (in_.high - in_.low);
    return tried_ >= kMost || (tried_ >= kPatience && fx_ > in_.hopeless * in_.hopeless) ||
           (tried_ > 2 && std::abs(x_ - 0.5 * (a_ + b_)) <= tolerance - 0.5 * (b_ - a_)) || fx_ == 0;
  }

 private:
  static constexpr double kGolden = 0.3819660112501051;
  static constexpr double kTolerance = 1e-9;  // of the interval
  static constexpr int kMost = 40;
  static constexpr int kPatience = 10;

  // x is the best point, w the second, v the third; the foot lies in [a, b].
  void keep(double u, double fu) {
    if (std::isnan(fu)) fu = std::numeric_limits<double>::infinity();
    if (fu <= fx_) {
      if (std::isfinite(fx_)) (u >= x_ ? a_ : b_) = x_;
      v_ = std::exchange(w_, std::exchange(x_, u));
      fv_ = std::exchange(fw_, std::exchange(fx_, fu));
      return;
    }
    (u < x_ ? a_ : b_) = u;
    if (fu <= fw_) {
      v_ = std::exchange(w_, u);
      fv_ = std::exchange(fw_, fu);
    } else if (fu <= fv_) {
      v_ = u;
      fv_ = fu;
    }
  }

  MinimumIn in_;
  double a_;
  double b_;
  double x_ = 0, w_ = 0, v_ = 0;
  double fx_ = std::numeric_limits<double>::infinity();
  double fw_ = fx_, fv_ = fx_;
  double u_ = 0;
  double last_ = std::numeric_limits<double>::infinity();
  double before_last_ = std::numeric_limits<double>::infinity();
  int tried_ = 0;
};

}  // namespace plumb
