//===- Math.h - elementary functions ----------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// exp, log, tanh, erf, GELU and its derivative as polynomials in explicit fma,
// without branches on values: the same bits on the host, in generated CPU code
// and on a CUDA device. Coefficients are our own minimax fits (Lawson's
// iteration, rounded to f32 from the lowest order up, the rest refitted).
//
// Largest errors against the C library in double precision, over every f32 of
// the ranges where the functions vary and every 29th elsewhere (tested):
//
//   exp       1.02 ulp  subnormal results too
//   log       0.83 ulp  subnormal arguments too
//   tanh      1.34 ulp
//   erf       1.05 ulp
//   gelu      1.5 ulp for x >= 0, 2.1 to -1, 5.5 to -5, 6.7 below
//   geluGrad  1.0 ulp for x >= 0, 1e-7 absolute below (it has a root at -0.75),
//             5.3 ulp below -2
//
// NaN yields NaN, infinities the limits; NaN payloads are not defined.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_MATH_H
#define MPT_NUMERICS_MATH_H

#include "mpt/Numerics/Scalar.h"

namespace mpt {
namespace num {

/// The larger of the two; NaN if either is. Of two zeros either may come out.
template <typename F> MPT_HD F maxOf(F a, F b) {
  return select((a > b) | (a != a), a, b);
}

/// `magnitude` (not negative, or NaN) with the sign of `sign`.
template <typename F> MPT_HD F withSignOf(F magnitude, F sign) {
  return asFloat(bits(magnitude) | (bits(sign) & litU(sign, 0x80000000u)));
}

namespace detail {

/// x = n ln2 + r with |r| <= ln2 / 2; n is in the low bits of `sum`.
template <typename F> struct ExpArgument {
  F sum, r;
};

template <typename F> MPT_HD ExpArgument<F> reduceExp(F x) {
  // Outside this range the result is infinite or 0.
  F hi = lit(x, 89.0f);
  F lo = lit(x, -104.0f);
  F c = select(x > hi, hi, select(x < lo, lo, x));
  // Adding 1.5 * 2^23 leaves round(c / ln2) in the low bits of the sum.
  F magic = lit(x, 12582912.0f);
  F sum = fma(c, lit(x, 0x1.715476p+0f), magic);
  F n = sum - magic;
  F r = fma(n, lit(x, -0x1.62e400p-1f), c);
  return {sum, fma(n, lit(x, -0x1.7f7d1cp-20f), r)};
}

/// 2^n e^r: a polynomial of degree 6 in r, and 2^n applied in two factors so
/// that results below 2^-126 round only once.
template <typename F> MPT_HD F expReduced(F sum, F r) {
  F p = lit(r, 0x1.6a4154p-10f);
  p = fma(p, r, lit(r, 0x1.1239c6p-7f));
  p = fma(p, r, lit(r, 0x1.5558bcp-5f));
  p = fma(p, r, lit(r, 0x1.555492p-3f));
  p = fma(p, r, lit(r, 0x1.fffffcp-2f));
  p = fma(r * r, p, r) + lit(r, 1.0f);
  // n + 256 is positive; its halves n1 + 128 and n2 + 128 give 2^n1 and 2^n2.
  auto biased = bits(sum) - litU(r, 0x4b400000u - 256u);
  auto half = biased >> 1;
  auto one = litU(r, 1u);
  return p * asFloat((half - one) << 23) * asFloat((biased - half - one) << 23);
}

} // namespace detail

/// e^x; results below 2^-126 are rounded once.
template <typename F> MPT_HD F exp(F x) {
  detail::ExpArgument<F> a = detail::reduceExp(x);
  return detail::expReduced(a.sum, a.r);
}

/// ln x. x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), then the series of
/// log((1 + s) / (1 - s)) in s = f / (2 + f). -inf at 0, NaN below.
template <typename F> MPT_HD F log(F x) {
  auto subnormal = x < lit(x, 0x1p-126f);
  F scaled = select(subnormal, x * lit(x, 0x1p23f), x);
  auto u = bits(scaled) + litU(x, 0x3f800000u - 0x3f3504f3u);
  F k = toFloat(u >> 23) -
        select(subnormal, lit(x, 127.0f + 23.0f), lit(x, 127.0f));
  F f =
      asFloat((u & litU(x, 0x007fffffu)) + litU(x, 0x3f3504f3u)) - lit(x, 1.0f);
  F s = f / (f + lit(x, 2.0f));
  F z = s * s;
  F p = lit(x, 0x1.32169ap-2f);
  p = fma(p, z, lit(x, 0x1.995cdcp-2f));
  p = fma(p, z, lit(x, 0x1.55557cp-1f));
  F half = lit(x, 0.5f) * f * f;
  F tail = fma(s, fma(z, p, half), k * lit(x, 0x1.2fefa2p-17f));
  F r = fma(k, lit(x, 0x1.62e300p-1f), f - (half - tail));
  // Infinity and NaN are their own logarithms.
  r = select(x <= lit(x, 0x1.fffffep+127f), r, x);
  F zero = lit(x, 0.0f);
  r = select(x < zero, asFloat(litU(x, 0x7fc00000u)), r);
  return select(x == zero, asFloat(litU(x, 0xff800000u)), r);
}

/// tanh x: an odd polynomial below 0.6, 1 - 2 / (e^2|x| + 1) above.
template <typename F> MPT_HD F tanh(F x) {
  F t = abs(x);
  F z = x * x;
  F p = lit(x, -0x1.75619ap-8f);
  p = fma(p, z, lit(x, 0x1.5207b8p-6f));
  p = fma(p, z, lit(x, -0x1.b83738p-5f));
  p = fma(p, z, lit(x, 0x1.1106fcp-3f));
  p = fma(p, z, lit(x, -0x1.555532p-2f));
  F small = fma(t * z, p, t);
  F one = lit(x, 1.0f);
  F large = one - lit(x, 2.0f) / (num::exp(t + t) + one);
  return num::withSignOf(select(t < lit(x, 0.6f), small, large), x);
}

/// erf x: an odd polynomial below 0.92, 1 - e^-(t + t P(t)) with t = |x| above.
template <typename F> MPT_HD F erf(F x) {
  F z = x * x;
  F p = lit(x, -0x1.38fed6p-11f);
  p = fma(p, z, lit(x, 0x1.46fbacp-8f));
  p = fma(p, z, lit(x, -0x1.b681aep-6f));
  p = fma(p, z, lit(x, 0x1.ce19e6p-4f));
  p = fma(p, z, lit(x, -0x1.8126e4p-2f));
  p = fma(p, z, lit(x, 0x1.06eba6p-3f));
  F small = fma(x, p, x);
  // From 4 on the result is 1.
  F four = lit(x, 4.0f);
  F a = abs(x);
  F t = select(a > four, four, a);
  F q = lit(x, -0x1.c0c5a2p-13f);
  q = fma(q, t, lit(x, 0x1.a56532p-9f));
  q = fma(q, t, lit(x, -0x1.7707c8p-6f));
  q = fma(q, t, lit(x, 0x1.af271ep-4f));
  q = fma(q, t, lit(x, 0x1.457cdep-1f));
  q = fma(q, t, lit(x, 0x1.07328ap-3f));
  F large = lit(x, 1.0f) - num::exp(-fma(t, q, t));
  return select(a < lit(x, 0.92f), small, num::withSignOf(large, x));
}

/// What GELU and its derivative share, for t = min(|x|, 15): the normal tail is
/// Phi(-t) = gauss * mills.
template <typename F> struct NormalTail {
  F t;     ///< min(|x|, 15); the tail is below 2^-149 from there on
  F gauss; ///< e^(-t^2 / 2)
  F mills; ///< Phi(-t) e^(t^2 / 2)
};

template <typename F> MPT_HD NormalTail<F> normalTail(F x) {
  F limit = lit(x, 15.0f);
  F a = abs(x);
  F t = select(a > limit, limit, a);
  // The rounding error of t^2 joins the reduced argument.
  F minusHalf = lit(x, -0.5f);
  F square = t * t;
  F error = fma(t, t, -square);
  detail::ExpArgument<F> e = detail::reduceExp(square * minusHalf);
  F gauss = detail::expReduced(e.sum, fma(error, minusHalf, e.r));
  // A quotient of two polynomials with positive coefficients.
  F p = lit(x, 0x1.0e5ea0p-8f);
  p = fma(p, t, lit(x, 0x1.4d697ep-5f));
  p = fma(p, t, lit(x, 0x1.77ae40p-3f));
  p = fma(p, t, lit(x, 0x1.c11a8ep-2f));
  p = fma(p, t, lit(x, 0.5f));
  F q = lit(x, 0x1.52dab2p-7f);
  q = fma(q, t, lit(x, 0x1.a1e55ap-4f));
  q = fma(q, t, lit(x, 0x1.e148b4p-2f));
  q = fma(q, t, lit(x, 0x1.340f6cp+0f));
  q = fma(q, t, lit(x, 0x1.accf76p+0f));
  q = fma(q, t, lit(x, 1.0f));
  return {t, gauss, p / q};
}

/// x Phi(x), the GELU with erf (not the tanh one). Phi(x) is 1/2 + x W(x^2) for
/// |x| < 1 and comes from the normal tail elsewhere: relative accuracy holds
/// for negative x too, where 1 + erf would cancel. -0 at -inf.
template <typename F> MPT_HD F gelu(F x) {
  F z = x * x;
  F w = lit(x, -0x1.122046p-17f);
  w = fma(w, z, lit(x, 0x1.e26c90p-14f));
  w = fma(w, z, lit(x, -0x1.376eacp-10f));
  w = fma(w, z, lit(x, 0x1.46d558p-7f));
  w = fma(w, z, lit(x, -0x1.105862p-4f));
  w = fma(w, z, lit(x, 0x1.988454p-2f));
  F core = x * fma(x, w, lit(x, 0.5f));
  NormalTail<F> n = num::normalTail(x);
  F upper = x * fma(-n.gauss, n.mills, lit(x, 1.0f));
  F lower = -(n.t * n.mills) * n.gauss;
  F tail = select(x < lit(x, 0.0f), lower, upper);
  return select(abs(x) < lit(x, 1.0f), core, tail);
}

/// d gelu / dx = Phi(x) + x phi(x), in the same two parts.
template <typename F> MPT_HD F geluGrad(F x) {
  F z = x * x;
  F w = lit(x, -0x1.640bb6p-14f);
  w = fma(w, z, lit(x, 0x1.24f626p-10f));
  w = fma(w, z, lit(x, -0x1.367becp-7f));
  w = fma(w, z, lit(x, 0x1.ea2916p-5f));
  w = fma(w, z, lit(x, -0x1.1057f6p-2f));
  w = fma(w, z, lit(x, 0x1.988452p-1f));
  F core = fma(x, w, lit(x, 0.5f));
  NormalTail<F> n = num::normalTail(x);
  F d = fma(lit(x, -0x1.988454p-2f), n.t, n.mills); // 1 / sqrt(2 pi)
  F upper = fma(-n.gauss, d, lit(x, 1.0f));
  F tail = select(x < lit(x, 0.0f), n.gauss * d, upper);
  return select(abs(x) < lit(x, 1.0f), core, tail);
}

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_MATH_H
